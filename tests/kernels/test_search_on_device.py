"""The device's beam search against the torch one, and the whole device decoder against transformers."""

import pytest
import torch
from beam_search_oracle import random_language
from tiny_whisper import tiny_features, tiny_whisper
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import prompt_tokens
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Suppression
from whisper_speedup.fused.device_decoder import DeviceDecoder
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.kernels.beam_update import BeamState, beam_update, read_hypothesis
from whisper_speedup.kernels.stream import ROWS

PROMPT, EOS, VOCABULARY, TILE = [2, 3, 4], 1, 61, 16
LOWEST = -(2**63)


def packed(score: float, token: int) -> int:
    bits = torch.tensor(score).view(torch.int32).item()
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32) | (0x7FFFFFFF - token)


def tiles_of(logits: torch.Tensor, forbidden: set[int], keep: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the vocabulary kernel leaves, made in plain Python."""
    rows, size = logits.shape
    tiles = -(-size // TILE)
    peak, norm = torch.zeros(tiles, ROWS), torch.zeros(tiles, ROWS)
    candidates = torch.full((tiles, ROWS, keep), LOWEST, dtype=torch.int64)
    for tile in range(tiles):
        z = logits[:, tile * TILE : (tile + 1) * TILE]
        peak[tile, :rows] = z.max(1).values
        norm[tile, :rows] = (z - peak[tile, :rows, None]).exp().sum(1)
        for row in range(rows):
            allowed = [(float(value), tile * TILE + i) for i, value in enumerate(z[row])]
            best = sorted((packed(value, token) for value, token in allowed if token not in forbidden), reverse=True)
            candidates[tile, row, : len(best[:keep])] = torch.tensor(best[:keep], dtype=torch.int64)
    return peak, norm, candidates


CASES = [
    (5, 1.0, False, 12), (5, 0.6, True, 12), (3, 2.0, "never", 9), (2, 0.0, False, 12), (8, 1.0, False, 6),
    (4, -0.5, False, 8), (5, 1.0, "never", 7), (1, 1.0, False, 10), (1, 0.6, False, 3), (2, 1.0, True, 1),
]  # fmt: skip


@pytest.mark.parametrize(("beams", "penalty", "early", "limit"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_beam_update_equals_the_torch_search(
    device: torch.device, beams: int, penalty: float, early: bool | str, limit: int, seed: int
) -> None:
    settings = DecodingSettings(
        prompt=tuple(PROMPT), num_beams=beams, max_new_tokens=limit, min_length=1, length_penalty=penalty,
        early_stopping=early, eos=EOS, suppress=(6, 7), begin_suppress=(9, EOS), languages=(), timestamp_begin=10**6,
        max_positions=64,
    )  # fmt: skip
    total = settings.max_total(0)
    kind = BeamSearch if beams > 1 else GreedySearch
    search = kind(settings, Suppression(settings, torch.device("cpu")), len(PROMPT), total)
    logits_of = random_language(100 * seed + beams, VOCABULARY, 0.0)
    state = BeamState(64, device)
    state.reset(len(PROMPT))
    running, going = [list(PROMPT)], True
    while going:
        logits = logits_of(running)
        begin = len(running[0]) == len(PROMPT)
        forbidden = set(settings.suppress) | (set(settings.begin_suppress) if begin else set())
        left = [part.to(device) for part in tiles_of(logits, forbidden, 2 * beams)]
        going = search.advance(logits)
        beam_update(
            state, *left, 1 if begin else beams, beams, VOCABULARY, len(PROMPT), total, EOS, penalty, early, num_warps=4
        )  # fmt: skip
        assert bool(state.done) == (not going)
        if going:
            assert state.tokens[:beams].tolist() == search.tokens.tolist()
            base = running if len(running) > 1 else running * beams
            pairs = zip(search.parents.tolist(), search.tokens.tolist(), strict=True)
            running = [[*base[parent], token] for parent, token in pairs]
    best = search.result()
    tokens, score = read_hypothesis(state)
    assert tokens == best.tokens + ([EOS] if best.ended else [])
    assert score == pytest.approx(best.score, abs=1e-5)

    kept = {name: value.clone() for name, value in vars(state).items()}
    beam_update(state, *left, beams, beams, VOCABULARY, len(PROMPT), total, EOS, penalty, early, num_warps=4)
    assert all(torch.equal(value, kept[name]) for name, value in vars(state).items()), "a launch after done"


SMALL = Tile(16, 32, 4, 1)
LAUNCH = LaunchConfig(
    qkv=SMALL, out=SMALL, query=SMALL, fc1=SMALL, fc2=SMALL, vocabulary=Tile(32, 32, 4, 1), cross_shares=2,
    fc2_splits=2,
)  # fmt: skip


def plain_tiny_whisper(seed: int) -> WhisperForConditionalGeneration:
    """The tiny model without its end-of-text bias, which the kernels do not know."""
    model = tiny_whisper(seed, eos_bias=0.0)
    del model.proj_out.forward
    return model


@pytest.mark.parametrize("beams", [1, 2, 3, 5, 8])
def test_device_decoder_equals_transformers(device: torch.device, beams: int) -> None:
    model = plain_tiny_whisper(beams)
    arguments = {"num_beams": beams, "do_sample": False, "min_length": 1, "max_length": 4}
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    weights = pack_device_weights(model, device, torch.float32)
    decoder = DeviceDecoder(weights, settings, 20, settings.max_total(0), LAUNCH)
    prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=device)
    for seed in (1, 2):  # the second utterance finds the buffers as the first left them
        features = tiny_features(seed)
        with torch.no_grad():
            states = model.model.encoder(features).last_hidden_state[0].to(device)
            cross = states.expand(weights.cross_weight.shape[0], -1, -1) @ weights.cross_weight.transpose(1, 2)
            decoder.cross.copy_(cross + weights.cross_bias)
            decoder.prompt(prompt, settings.max_total(0), settings.min_length)
            while not int(decoder.state.done):
                decoder.step(len(prompt), settings.max_total(0), settings.min_length)
            expected = model.generate(features, **arguments)[0].tolist()
        tokens, _ = read_hypothesis(decoder.state)
        assert [token for token in tokens if token != EOS] == expected
