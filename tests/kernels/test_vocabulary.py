"""The vocabulary projection: log-sum-exp, and each tile's best tokens among those that may come next."""

from typing import Any

import pytest
import torch
import triton

from tests.kernels.support import EPS, PROMPT, ROW_COUNTS, TOLERANCE, VOCABULARIES, filled, index, random
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.norm_linear import fold_norm, norm_linear_reference
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.kernels.vocabulary import (
    END_OF_TEXT,
    SUPPRESSED,
    SUPPRESSED_AT_BEGIN,
    vocabulary,
    vocabulary_reference,
)

PROMPT_LENGTH, MIN_LENGTH, EOS = 4, 8, 7
LOWEST = -(2**63)


def unpacked(candidates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and tokens of packed candidates."""
    ordered = (candidates >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), 0x7FFFFFFF - (candidates & 0x7FFFFFFF)


def rules_of(size: int, device: torch.device, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is suppressed, as the kernel reads it and as (size,) bool for this length."""
    rules = torch.zeros(size, dtype=torch.int8, device=device)
    rules[[1, 2, 3, size - 1]], rules[[5, 6]], rules[EOS] = SUPPRESSED, SUPPRESSED_AT_BEGIN, END_OF_TEXT
    forbidden = rules == SUPPRESSED
    forbidden[[5, 6]] = length == PROMPT_LENGTH
    forbidden[EOS] = length < MIN_LENGTH
    return rules, forbidden


def check(
    device: torch.device, dtype: torch.dtype, rows: int, d: int, size: int, keep: int, length: int, block: int,
    first: int = 0, **tile: Any,
) -> None:  # fmt: skip
    """`rows` rows of the stream from row `first` on; logits are about 1 in size, so tolerances are absolute."""
    x, embedding = random(device, dtype, first + rows, d), random(device, dtype, size, d) * d**-0.5
    gamma, beta = random(device, dtype, d), random(device, dtype, d)
    # The first row's best are those that could be chosen wrongly: suppressed ones, two that are equal, the last tokens.
    normed = norm_linear_reference(x, torch.eye(d, device=device), torch.zeros(d, device=device), gamma, beta, EPS)
    likely = normed[first] / normed[first].square().sum()
    wanted = {1: 13.0, size - 1: 13.0, 20: 12.0, 50: 12.0, 5: 11.0, EOS: 10.0, size - 2: 9.0}
    for token, logit in wanted.items():
        embedding[token] = (likely * logit).to(dtype)
    rules, forbidden = rules_of(size, device, length)
    tiles = triton.cdiv(size, tile["block_n"])
    peak, norm = (torch.full((tiles, ROWS), float("nan"), device=device) for _ in range(2))
    candidates = torch.full((tiles, ROWS, keep), LOWEST, dtype=torch.int64, device=device)
    folded = fold_norm(embedding, torch.zeros(size, device=device), gamma, beta)
    vocabulary(
        filled(x, gamma, block), first, rows, embedding, *folded, rules, index(device, length), peak, norm, candidates,
        EPS, PROMPT_LENGTH, MIN_LENGTH, **tile,
    )  # fmt: skip
    best, tokens, total = vocabulary_reference(x[first:], embedding, gamma, beta, EPS, forbidden, keep)
    logits = norm_linear_reference(x[first:], embedding, torch.zeros(size, device=device), gamma, beta, EPS)
    # The largest of a hundred thousand rounding errors is some 5 times the typical one.
    tolerance = 6 * TOLERANCE[dtype]

    highest = peak[:, :rows].amax(0)
    found = (norm[:, :rows] * (peak[:, :rows] - highest).exp()).sum(0).log() + highest
    torch.testing.assert_close(found, total, rtol=0, atol=tolerance)
    torch.testing.assert_close(highest, logits.amax(1), rtol=0, atol=tolerance)
    merged = candidates[:, :rows].transpose(0, 1).reshape(rows, -1).sort(dim=1, descending=True).values[:, :keep]
    scores, chosen = unpacked(merged)
    for row in range(rows):
        picked = chosen[row]
        assert picked.unique().numel() == keep
        assert not bool(forbidden[picked].any())
        torch.testing.assert_close(scores[row], logits[row, picked], rtol=0, atol=tolerance)
        assert bool((logits[row, picked] >= best[row, -1] - 2 * tolerance).all()), "a likelier token was left out"
        gaps = best[row, :-1] - best[row, 1:]
        if bool((gaps > 2 * tolerance).all()):  # where rounding cannot swap two
            assert picked.tolist() == tokens[row].tolist()
    allowed = [token for token in wanted if not bool(forbidden[token])]  # of equal logits, the lower token goes first
    assert chosen[0, : len(allowed)].tolist() == allowed[:keep]
    assert bool((candidates[:, rows:] == LOWEST).all()), "rows that are not asked for must stay as they are"
    assert bool(peak[:, rows:].isnan().all())


@pytest.mark.parametrize("length", [4, 7, 8, 9])
@pytest.mark.parametrize(
    ("rows", "d", "size", "keep", "first"),
    [(3, 32, 203, 6, 0), (1, 40, 131, 2, 0), (5, 33, 197, 10, 0), (8, 48, 161, 16, 0), (1, 32, 203, 10, 3)],
)
def test_small_shapes(
    device: torch.device, dtype: torch.dtype, length: int, rows: int, d: int, size: int, keep: int, first: int
) -> None:
    check(device, dtype, rows, d, size, keep, length, 16, first, block_n=64, block_k=16, num_stages=1)


@pytest.mark.parametrize("done", [0, 1])
def test_behind_the_end_nothing_is_written(device: torch.device, dtype: torch.dtype, done: int) -> None:
    x, embedding, gamma = (random(device, dtype, *shape) for shape in ((2, 32), (100, 32), (32,)))
    peak, norm = (torch.full((2, ROWS), float("nan"), device=device) for _ in range(2))
    candidates = torch.full((2, ROWS, 4), LOWEST, dtype=torch.int64, device=device)
    zeros, rules = torch.zeros(100, device=device), torch.zeros(100, dtype=torch.int8, device=device)
    vocabulary(
        filled(x, gamma), 0, 2, embedding, zeros, zeros, rules, index(device, 5), peak, norm, candidates, EPS,
        PROMPT_LENGTH, MIN_LENGTH, block_n=64, block_k=16, num_stages=1, done=index(device, done),
    )  # fmt: skip
    assert bool(peak[:, :2].isnan().all()) == bool(norm[:, :2].isnan().all()) == bool(done)
    assert bool((candidates == LOWEST).all()) == bool(done)


@pytest.mark.gpu
@pytest.mark.parametrize("size", VOCABULARIES)
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig, size: int) -> None:
    tile = vars(launch.vocabulary)
    for beams in ROW_COUNTS:
        check(device, half, beams, width, size, 2 * beams, 9, 64, **tile)
    check(device, half, 1, width, size, 10, PROMPT_LENGTH, 64, PROMPT - 1, **tile)
