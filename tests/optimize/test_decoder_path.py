"""The decoder's forward itself: what it serves, what it leaves to transformers, and the change between them."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from documented_uses import assert_same
from tiny_whisper import multilingual_whisper
from transformers import DynamicCache, EncoderDecoderCache, StaticCache, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup import last_path, optimize_model, restore_model
from whisper_speedup.optimize.decoder_path import DecoderPath
from whisper_speedup.optimize.public import decoder_path

PROMPT = torch.tensor([[2, 20, 30, 75]])


def encoder_states(utterances: int, beams: int = 1) -> torch.Tensor:
    """(utterances * beams, 20, 32), each repeated for its beams."""
    states = torch.randn(utterances, 20, 32, generator=torch.Generator().manual_seed(7))
    return states.repeat_interleave(beams, 0)


def pair(seed: int = 0) -> tuple[WhisperForConditionalGeneration, WhisperForConditionalGeneration]:
    """The same model twice, the second one's decoder optimised."""
    plain, ours = multilingual_whisper(seed), multilingual_whisper(seed)
    optimize_model(ours.model.decoder)
    return plain, ours


def decode(
    model: WhisperForConditionalGeneration, tokens: list[torch.Tensor], states: torch.Tensor, **kwargs: Any
) -> Any:
    """Feed the tokens, one tensor (rows, count) at a time, on one cache; returns all states (rows, total, d)."""
    cache, parts = kwargs.pop("past_key_values", None), []
    with torch.no_grad():
        for some in tokens:
            out = model.model.decoder(
                input_ids=some, encoder_hidden_states=states, past_key_values=cache, use_cache=True, **kwargs
            )
            cache = out.past_key_values
            parts.append(out.last_hidden_state)
    return torch.cat(parts, 1), cache


def tokens(rows: int, *counts: int, same: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randint(3, 60, (rows, count), generator=generator) for count in counts]
    return [some[:1].expand(rows, -1) for some in drawn] if same else drawn


@pytest.mark.parametrize(("utterances", "beams"), [(1, 1), (1, 5), (3, 1), (2, 3)])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("counts", [(4, 1, 1, 1), (1, 1), (40, 1, 23), (2, 3, 1)])
def test_any_rows_and_any_number_of_tokens(utterances: int, beams: int, same: bool, counts: tuple[int, ...]) -> None:
    plain, ours = pair()
    fed = tokens(utterances * beams, *counts, same=same)
    states = encoder_states(utterances, beams)
    expected, its_cache = decode(plain, fed, states)
    found, cache = decode(ours, fed, states)
    assert_same(expected, found)
    assert_same(its_cache, cache)
    assert decoder_path(ours.model.decoder).counts == {"decoder": len(counts)}


def test_rows_of_one_utterance_share_its_cross_attention_and_reorder_copies_no_state() -> None:
    _, ours = pair()
    _, cache = decode(ours, tokens(6, 4, same=True), encoder_states(2, 3))
    store = cache.cross_attention_cache.store
    assert (store.utterances, store.beams) == (2, 3)
    assert store.cross_keys[0].shape[0] == 2 * 4  # utterances * heads
    places = [store.states.data_ptr(), store.cross_keys[0].data_ptr(), store.cross_values[1].data_ptr()]
    versions = [store.states._version, store.cross_keys[0]._version, store.cross_values[1]._version]
    cache.reorder_cache(torch.tensor([1, 1, 0, 5, 3, 3]))
    assert [store.states.data_ptr(), store.cross_keys[0].data_ptr(), store.cross_values[1].data_ptr()] == places
    assert [store.states._version, store.cross_keys[0]._version, store.cross_values[1]._version] == versions
    assert cache.cross_attention_cache.store is store


@pytest.mark.parametrize("order", [[1, 1, 0, 5, 3, 3], [5, 4, 3, 2, 1, 0], [0, 0, 0, 0]])
def test_any_reorder_and_crop_then_more_tokens(order: list[int]) -> None:
    """Within utterances, across them, and to another number of rows; the first stays with us, the others do not."""
    fed, states = tokens(6, 4, 1, 1), encoder_states(2, 3)
    results = []
    for model in pair():
        _, cache = decode(model, fed, states)
        cache.reorder_cache(torch.tensor(order))
        cache.crop(-1)
        kept = states[torch.tensor(order)]
        more, cache = decode(model, tokens(len(order), 1, 1), kept, past_key_values=cache)
        results.append((more, cache))
    assert_same(results[0], results[1])


@pytest.mark.parametrize("remove", [-2, 0, 3, 99])
def test_crop_means_what_it_means_in_transformers(remove: int) -> None:
    lengths = []
    for model in pair():
        _, cache = decode(model, tokens(2, 4, 1), encoder_states(1, 2))
        cache.crop(remove)
        lengths.append(cache.get_seq_length())
    assert lengths[0] == lengths[1]


def test_a_users_own_cache_is_filled_in_place() -> None:
    _, ours = pair()
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    _, returned = decode(ours, [PROMPT], encoder_states(1), past_key_values=cache)
    assert returned is cache
    assert (cache.get_seq_length(), cache.cross_attention_cache.get_seq_length()) == (4, 20)
    assert (len(cache), cache.is_updated) == (2, {0: True, 1: True})
    assert (cache.get_max_length(), cache.is_compileable, cache.is_croppable) == (-1, False, True)


def test_without_return_dict_it_returns_a_tuple() -> None:
    with torch.no_grad():
        expected, found = (
            model.model.decoder(PROMPT, None, encoder_states(1), use_cache=True, return_dict=False) for model in pair()
        )
    assert isinstance(found, tuple)
    assert_same(expected, found)


def attentions(model: WhisperForConditionalGeneration) -> Any:
    model.set_attn_implementation("eager")
    return decode(model, [PROMPT], encoder_states(1), output_attentions=True)


def padded(model: WhisperForConditionalGeneration) -> Any:
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    states, _ = decode(model, [PROMPT.expand(2, -1)], encoder_states(2), attention_mask=mask)
    return states[:, -1]


def odd_positions(model: WhisperForConditionalGeneration) -> Any:
    return decode(model, [PROMPT], encoder_states(1), position_ids=torch.tensor([[5, 6, 7, 9]]))


def embeddings(model: WhisperForConditionalGeneration) -> Any:
    given = model.model.decoder.embed_tokens(PROMPT)
    with torch.no_grad():
        return model.model.decoder(inputs_embeds=given, encoder_hidden_states=encoder_states(1), use_cache=True)


def static(model: WhisperForConditionalGeneration) -> Any:
    config = model.config
    cache = EncoderDecoderCache(StaticCache(config, max_cache_len=10), StaticCache(config, max_cache_len=20))
    return decode(model, [PROMPT], encoder_states(1), past_key_values=cache)[0]


def training(model: WhisperForConditionalGeneration) -> Any:
    model.train()
    return decode(model, [PROMPT], encoder_states(1))


def gradients(model: WhisperForConditionalGeneration) -> Any:
    out = model.model.decoder(PROMPT, encoder_hidden_states=encoder_states(1), use_cache=True)
    out.last_hidden_state.square().sum().backward()
    return model.model.decoder.layers[0].fc1.weight.grad


def autocast(model: WhisperForConditionalGeneration) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return decode(model, [PROMPT], encoder_states(1))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (attentions, "output_attentions is asked for"),
        (padded, "attention mask hides some tokens"),
        (odd_positions, "positions are not consecutive"),
        (embeddings, "embeddings come in the place of tokens"),
        (static, "not generate's default one"),
        (training, "training mode"),
        (gradients, "gradients are on"),
        (autocast, "autocast is on"),
    ],
)
def test_what_it_does_not_serve_runs_transformers_own_forward_with_one_warning(
    call: Callable[[WhisperForConditionalGeneration], Any], reason: str
) -> None:
    plain, ours = pair()
    expected = call(plain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same(expected, call(ours))
        call(ours)
    said = [str(warning.message) for warning in caught if "whisper_speedup" in str(warning.message)]
    assert len(said) == 1
    assert reason in said[0]
    assert last_path(ours.model.decoder).path == "original"
    assert decoder_path(ours.model.decoder).counts["decoder"] == 0


def test_too_many_positions_end_as_in_transformers() -> None:
    fed, states = tokens(1, 60, 5), encoder_states(1)
    for model in pair():
        with pytest.raises(IndexError):
            decode(model, fed, states)


@pytest.mark.parametrize("beams", [1, 3])
def test_transformers_goes_on_in_the_middle(beams: int) -> None:
    """Our steps, then one that asks for attentions, then one of those that we would have served."""
    fed, states = tokens(beams, 4, 1, 1, same=True), encoder_states(1, beams)
    results = []
    for model in pair():
        model.set_attn_implementation("eager")
        _, cache = decode(model, fed, states)
        cache.reorder_cache(torch.arange(beams).flip(0))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = model.model.decoder(
                input_ids=fed[1], encoder_hidden_states=states, past_key_values=cache, output_attentions=True
            )
            after, cache = decode(model, fed[2:], states, past_key_values=seen.past_key_values)
        results.append((seen.attentions, seen.cross_attentions, after, cache))
    assert_same(results[0], results[1])


def test_a_cache_outlives_restore_model_and_fits_another_decoder() -> None:
    plain, ours = pair()
    fed, states = tokens(2, 4, 1, 1), encoder_states(2)
    expected, _ = decode(plain, fed, states)
    for other in (plain, ours):
        _, cache = decode(ours, fed[:2], states)
        if other is ours:
            restore_model(ours.model.decoder)
        assert_same(expected[:, -1:], decode(other, fed[2:], states, past_key_values=cache)[0])


def test_a_cache_of_another_optimised_decoder() -> None:
    plain, ours = pair()
    other = multilingual_whisper(0)
    optimize_model(other)
    fed, states = tokens(2, 4, 1), encoder_states(2)
    _, cache = decode(ours, fed[:1], states)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, _ = decode(other, fed[1:], states, past_key_values=cache)
    assert "another decoder filled the cache" in str(caught[-1].message)
    assert_same(decode(plain, fed, states)[0][:, -1:], found)


def scale(model: WhisperForConditionalGeneration) -> None:
    with torch.no_grad():
        model.model.decoder.layers[1].fc1.weight.mul_(1.5)


def load(model: WhisperForConditionalGeneration) -> None:
    model.load_state_dict(multilingual_whisper(9).state_dict())


def replace(model: WhisperForConditionalGeneration) -> None:
    torch.manual_seed(5)
    model.model.decoder.layers[0].self_attn.q_proj = torch.nn.Linear(32, 32).eval()


@pytest.mark.parametrize("change", [scale, load, replace])
def test_changed_weights_are_packed_anew(change: Callable[[WhisperForConditionalGeneration], None]) -> None:
    plain, ours = pair()
    fed, states = tokens(2, 4, 1), encoder_states(2)
    before, _ = decode(ours, fed, states)
    for model in (plain, ours):
        change(model)
    expected, _ = decode(plain, fed, states)
    found, _ = decode(ours, fed, states)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert_same(expected, found)
    assert decoder_path(ours.model.decoder).counts["original"] == 0


class Adapter(torch.nn.Linear):
    """Stands for what an adapter library puts in the place of a product."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows) + 0.5


def adapt(model: WhisperForConditionalGeneration) -> None:
    torch.manual_seed(5)
    model.model.decoder.layers[0].fc1 = Adapter(32, 64)


def hook(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].register_forward_hook(lambda module, args, output: output * 1.1)


def patch(model: WhisperForConditionalGeneration) -> None:
    attention = model.model.decoder.layers[0].encoder_attn
    own = attention.forward
    attention.forward = lambda *args, **kwargs: (own(*args, **kwargs)[0] * 2, None)


@pytest.mark.parametrize(("change", "reason"), [(adapt, "Adapter"), (hook, "hook"), (patch, "replaced the forward")])
def test_what_changes_its_arithmetic_is_noticed(
    change: Callable[[WhisperForConditionalGeneration], None], reason: str
) -> None:
    plain, ours = pair()
    fed, states = tokens(2, 4, 1), encoder_states(2)
    decode(ours, fed, states)
    for model in (plain, ours):
        change(model)
    with pytest.warns(UserWarning, match=reason):
        assert_same(decode(plain, fed, states), decode(ours, fed, states))


def test_a_model_moved_to_half_precision_is_served_in_it() -> None:
    plain, ours = pair()
    states, fed = encoder_states(1, 2).half(), tokens(2, 4, 1)
    for model in (plain, ours):
        model.half()
    expected, found = decode(plain, fed, states)[0], decode(ours, fed, states)[0]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
    assert decoder_path(ours.model.decoder).counts == {"decoder": 2}


def test_made_inside_inference_mode_and_used_outside_it() -> None:
    plain, ours = pair()
    fed, states = tokens(2, 4, 1, 1), encoder_states(1, 2)
    with torch.inference_mode():
        _, cache = decode(ours, fed[:1], states)
    found, _ = decode(ours, fed[1:], states, past_key_values=cache)
    assert_same(decode(plain, fed, states)[0][:, 4:], found)
    assert decoder_path(ours.model.decoder).counts == {"decoder": 3}


def test_signature_is_the_decoders() -> None:
    _, ours = pair()
    assert list(inspect.signature(ours.model.decoder.forward).parameters) == [
        name for name in inspect.signature(WhisperDecoder.forward).parameters if name != "self"
    ]
    assert isinstance(decoder_path(ours.model.decoder), DecoderPath)
