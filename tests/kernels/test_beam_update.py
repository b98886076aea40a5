"""The device's beam search against the torch one."""

from collections.abc import Callable

import pytest
import torch
from beam_search_oracle import random_language

from tests.kernels.support import POSITIONS, VOCABULARIES
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Suppression
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.beam_state import BeamState
from whisper_speedup.kernels.beam_update import beam_update, read_hypothesis
from whisper_speedup.kernels.stream import ROWS

PROMPT, EOS, VOCABULARY, TILE = [2, 3, 4], 1, 61, 16
LOWEST = -(2**63)


def tiles_of(
    logits: torch.Tensor, forbidden: set[int], keep: int, tile: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the vocabulary kernel leaves of logits (rows, vocabulary); its own tests compare it with torch."""
    rows, size = logits.shape
    tiles = -(-size // tile)
    beyond = (0, tiles * tile - size)
    z = torch.nn.functional.pad(logits, beyond, value=float("-inf")).view(rows, tiles, tile)
    peak, norm = torch.zeros(tiles, ROWS), torch.zeros(tiles, ROWS)
    peak[:, :rows] = z.amax(2).T
    norm[:, :rows] = (z - z.amax(2, keepdim=True)).exp().sum(2).T
    bits = logits.view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
    packed = (ordered << 32) | (0x7FFFFFFF - torch.arange(size))
    packed[:, sorted(forbidden)] = LOWEST
    packed = torch.nn.functional.pad(packed, beyond, value=LOWEST).view(rows, tiles, tile)
    candidates = torch.full((tiles, ROWS, keep), LOWEST, dtype=torch.int64)
    candidates[:, :rows] = packed.topk(keep, dim=2).values.transpose(0, 1)
    return peak, norm, candidates


CASES = [
    (5, 1.0, False, 12), (5, 0.6, True, 12), (3, 2.0, "never", 9), (2, 0.0, False, 12), (8, 1.0, False, 6),
    (4, -0.5, False, 8), (5, 1.0, "never", 7), (1, 1.0, False, 10), (1, 0.6, False, 3), (2, 1.0, True, 1),
]  # fmt: skip


def check(
    device: torch.device,
    settings: DecodingSettings,
    logits_of: Callable[[list[list[int]]], torch.Tensor],
    vocabulary: int,
    tile: int,
    num_warps: int,
) -> None:
    """Both searches to their end, compared after each step; then a launch too many."""
    beams, prompt, eos = settings.num_beams, len(settings.prompt), settings.eos
    penalty, early, total = settings.length_penalty, settings.early_stopping, settings.max_total(0)
    kind = BeamSearch if beams > 1 else GreedySearch
    search = kind(settings, Suppression(settings, torch.device("cpu")), prompt, total)
    state = BeamState(settings.max_positions, device)
    state.reset(prompt)
    running, going = [list(settings.prompt)], True
    while going:
        logits = logits_of(running)
        begin = len(running[0]) == prompt
        forbidden = set(settings.suppress) | (set(settings.begin_suppress) if begin else set())
        left = [part.to(device) for part in tiles_of(logits, forbidden, 2 * beams, tile)]
        going = search.advance(logits)
        sources = 1 if begin else beams
        beam_update(
            state, *left, sources, beams, vocabulary, prompt, total, eos, penalty, early, num_warps=num_warps
        )  # fmt: skip
        assert bool(state.done) == (not going)
        if going:
            assert state.tokens[:beams].tolist() == search.tokens.tolist()
            base = running if len(running) > 1 else running * beams
            pairs = zip(search.parents.tolist(), search.tokens.tolist(), strict=True)
            running = [[*base[parent], token] for parent, token in pairs]
    assert int(state.host_done) == 1
    best = search.result()
    tokens, score = read_hypothesis(state)
    assert tokens == best.tokens + ([eos] if best.ended else [])
    assert score == pytest.approx(best.score, rel=3e-6, abs=1e-5)

    kept = {name: value.clone() for name, value in vars(state).items() if isinstance(value, torch.Tensor)}
    beam_update(state, *left, beams, beams, vocabulary, prompt, total, eos, penalty, early, num_warps=num_warps)
    assert all(torch.equal(getattr(state, name), value) for name, value in kept.items()), "a launch after done"


@pytest.mark.parametrize(("beams", "penalty", "early", "limit"), CASES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_small_shapes(
    device: torch.device, beams: int, penalty: float, early: bool | str, limit: int, seed: int
) -> None:
    settings = DecodingSettings(
        prompt=tuple(PROMPT), num_beams=beams, max_new_tokens=limit, min_length=1, length_penalty=penalty,
        early_stopping=early, eos=EOS, suppress=(6, 7), begin_suppress=(9, EOS), languages=(), timestamp_begin=10**6,
        max_positions=64,
    )  # fmt: skip
    check(device, settings, random_language(100 * seed + beams, VOCABULARY, 0.0), VOCABULARY, TILE, num_warps=4)


def wide_language(seed: int, vocabulary: int, eos: int) -> Callable[[list[list[int]]], torch.Tensor]:
    """Logits that depend on the whole sequence, for a vocabulary too large for a table of pairs."""

    def logits_of(sequences: list[list[int]]) -> torch.Tensor:
        rows = []
        for sequence in sequences:
            place = sum((index + 1) * token for index, token in enumerate(sequence))
            row = 3 * torch.randn(vocabulary, generator=torch.Generator().manual_seed(10**9 * seed + place))
            row[eos] += 12  # about the largest of so many
            rows.append(row)
        return torch.stack(rows)

    return logits_of


@pytest.mark.gpu
@pytest.mark.parametrize("beams", [1, 2, 5, 8])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("width", [1280], indirect=True)  # it does not read d_model; the engine's tile and warps do
def test_full_shapes(device: torch.device, launch: LaunchConfig, vocabulary: int, beams: int) -> None:
    prompt = (50257, 50362) if vocabulary == min(VOCABULARIES) else (50258, 50259, 50359, 50363)
    eos = prompt[0] - 1
    settings = DecodingSettings(
        prompt=prompt, num_beams=beams, max_new_tokens=20, min_length=1, length_penalty=1.0, early_stopping=False,
        eos=eos, suppress=(1, 2, 7, 8), begin_suppress=(220, eos), languages=(), timestamp_begin=10**6,
        max_positions=POSITIONS,
    )  # fmt: skip
    language = wide_language(beams, vocabulary, eos)
    check(device, settings, language, vocabulary, launch.vocabulary.block_n, launch.update_warps)
