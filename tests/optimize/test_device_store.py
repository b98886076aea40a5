"""The kernels' store, in Triton's interpreter: the same states as transformers' decoder."""

import gc

import pytest
import torch
from documented_uses import assert_same
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForConditionalGeneration

from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.optimize.decoder_path import DecoderPath
from whisper_speedup.optimize.device_store import DeviceStore
from whisper_speedup.optimize.states import store_behind
from whisper_speedup.optimize.torch_store import TorchStore

SMALL = Tile(16, 32, 4, 1)
LAUNCH = LaunchConfig(
    qkv=SMALL, out=SMALL, query=SMALL, fc1=SMALL, fc2=SMALL, vocabulary=Tile(32, 32, 4, 1), cross_shares=2,
    fc2_splits=2,
)  # fmt: skip


def pair() -> tuple[WhisperForConditionalGeneration, WhisperForConditionalGeneration, DecoderPath]:
    plain, ours = (multilingual_whisper(0, layers=1) for _ in range(2))
    path = DecoderPath(ours.model.decoder, LAUNCH)
    path.install()
    return plain, ours, path


@torch.no_grad()
def run(model: WhisperForConditionalGeneration, rows: int, same: bool, orders: list[list[int]]) -> tuple:
    """A prompt of 4 tokens a row, then a token a row after each reorder; all states, and the cache."""
    generator = torch.Generator().manual_seed(2)
    states = model.model.encoder(tiny_features(1)).last_hidden_state.repeat_interleave(rows, 0)
    prompt = torch.randint(3, 60, (1 if same else rows, 4), generator=generator).expand(rows, -1)
    out = model.model.decoder(prompt, encoder_hidden_states=states, use_cache=True)
    found = [out.last_hidden_state]
    for order in orders:
        cache = out.past_key_values
        cache.reorder_cache(torch.tensor(order))
        token = torch.randint(3, 60, (rows, 1), generator=generator)
        out = model.model.decoder(token, encoder_hidden_states=states, past_key_values=cache)
        found.append(out.last_hidden_state)
    return torch.cat(found, 1), out.past_key_values


@pytest.mark.parametrize("same", [True, False])
def test_beams_reordered(same: bool) -> None:
    plain, ours, path = pair()
    orders = [[0, 0, 2], [2, 1, 1], [1, 0, 0]]
    expected, its_cache = run(plain, 3, same, orders)
    found, cache = run(ours, 3, same, orders)
    assert isinstance(store_behind(cache), DeviceStore)
    assert_same(expected, found)
    assert_same(its_cache, cache)
    assert path.counts == {"decoder": 4}


@torch.no_grad()
def test_several_tokens_of_one_row_and_back() -> None:
    """What an assistant model brings: some tokens at once, then some of them taken back."""
    results = []
    for model in pair()[:2]:
        states = model.model.encoder(tiny_features(1)).last_hidden_state
        tokens = torch.randint(3, 60, (1, 20), generator=torch.Generator().manual_seed(4))
        out = model.model.decoder(tokens[:, :3], encoder_hidden_states=states, use_cache=True)
        cache, found = out.past_key_values, [out.last_hidden_state]
        for count, back in ((5, 3), (1, 0), (2, 1)):
            at = cache.get_seq_length()
            some = tokens[:, at : at + count]
            found.append(model.model.decoder(some, encoder_hidden_states=states, past_key_values=cache)[0])
            cache.crop(-back)
        results.append((torch.cat(found, 1), cache))
    assert_same(results[0], results[1])


@torch.no_grad()
def test_generate_with_beams_finds_the_buffers_of_the_call_before() -> None:
    plain, ours, path = pair()
    for seed in (1, 2):
        features = tiny_features(seed)
        arguments = {"num_beams": 3, "max_new_tokens": 3, "language": "en"}
        assert_same(plain.generate(features, **arguments), ours.generate(features, **arguments))
    assert [one.rows for one in path.kernels.buffers] == [3]
    assert path.counts["original"] == 0


@torch.no_grad()
def test_two_living_caches_never_share_buffers() -> None:
    plain, ours, path = pair()
    first, second = (run(ours, 1, True, [])[1] for _ in range(2))
    assert store_behind(first).buffers is not store_behind(second).buffers
    token = torch.tensor([[9]])
    states = ours.model.encoder(tiny_features(1)).last_hidden_state
    expected = run(plain, 1, True, [])[1]
    assert_same(expected, first)  # reads it, and so lets its buffers go
    del second
    gc.collect()
    held = [run(ours, 1, True, [])[1] for _ in range(5)]
    kinds = [type(store_behind(cache)) for cache in held]
    assert kinds == [DeviceStore] * 4 + [TorchStore]
    assert len(path.kernels.buffers) == 4
    found = ours.model.decoder(token, encoder_hidden_states=states, past_key_values=held[4])[0]
    assert_same(plain.model.decoder(token, encoder_hidden_states=states, past_key_values=expected)[0], found)


@torch.no_grad()
def test_more_than_one_utterance_or_eight_rows_is_plain_torch() -> None:
    _, ours, _ = pair()
    assert isinstance(store_behind(run(ours, 9, True, [])[1]), TorchStore)
    states = torch.randn(2, 20, 32)
    cache = ours.model.decoder(torch.tensor([[2], [2]]), encoder_hidden_states=states, use_cache=True).past_key_values
    assert isinstance(store_behind(cache), TorchStore)
