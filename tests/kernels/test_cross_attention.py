"""Cross-attention of the beams over shared keys, split over keys through an arrival counter."""

from typing import Any

import pytest
import torch

from tests.kernels.support import HEAD_DIM, KEYS, ROW_COUNTS, TOLERANCE, close, launch_again, poisoned, random
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.cross_attention import CrossAttentionScratch, cross_attention, cross_attention_reference


def scratch_of(device: torch.device, d: int, heads: int, shares: int) -> CrossAttentionScratch:
    scratch = CrossAttentionScratch(heads, d // heads, shares, device)
    for buffer in (scratch.partial, scratch.peak, scratch.norm):
        buffer.fill_(float("nan"))
    return scratch


def inputs(device: torch.device, dtype: torch.dtype, rows: int, d: int, count: int) -> tuple[torch.Tensor, ...]:
    # All scores far below zero: a key that is not there, with its score of 0, would take the whole weight.
    query = -random(device, dtype, rows, d).abs() - 1
    return query, random(device, dtype, count, d).abs() + 1, random(device, dtype, count, d)


def check(
    device: torch.device, dtype: torch.dtype, rows: int, d: int, heads: int, count: int, shares: int, **options: Any
) -> None:
    scratch = scratch_of(device, d, heads, shares)
    for _ in range(2):  # the second launch finds the arrival counts as the first left them
        query, keys, values = inputs(device, dtype, rows, d, count)
        out, beyond = poisoned(device, dtype, rows, d)
        cross_attention(query, keys, values, out, heads, scratch, **options)
        close(out, cross_attention_reference(query, keys, values, heads), TOLERANCE[dtype])
        assert bool(beyond.isnan().all())
        assert not bool(scratch.arrived.any())


@pytest.mark.parametrize(
    ("rows", "count", "shares"),
    [(5, 77, 1), (5, 77, 3), (5, 92, 5), (5, 17, 2), (1, 33, 2), (8, 50, 4), (3, 5, 5), (2, 10, 6)],
)
def test_small_shapes(device: torch.device, dtype: torch.dtype, rows: int, count: int, shares: int) -> None:
    check(device, dtype, rows, 48, 3, count, shares)


def test_as_many_keys_as_a_window_has(device: torch.device, dtype: torch.dtype) -> None:
    """1500 is no multiple of a tile: Kernl's kernel let 36 keys that are not there into every softmax."""
    check(device, dtype, 5, 16, 1, KEYS, 2)


def options_of(launch: LaunchConfig) -> dict[str, int]:
    return {"num_warps": launch.cross_warps}


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig) -> None:
    for rows in ROW_COUNTS:
        heads = width // HEAD_DIM
        check(device, half, rows, width, heads, KEYS, launch.cross_shares, **options_of(launch))


def check_same_bytes(
    device: torch.device, dtype: torch.dtype, d: int, heads: int, count: int, shares: int, options: dict[str, int],
    launches: int,
) -> None:  # fmt: skip
    scratch = scratch_of(device, d, heads, shares)
    query, keys, values = inputs(device, dtype, 5, d, count)

    def run() -> tuple[torch.Tensor, ...]:
        out, _ = poisoned(device, dtype, 5, d)
        return (cross_attention(query, keys, values, out, heads, scratch, **options),)

    launch_again(launches, run)


def test_small_shapes_again(device: torch.device, dtype: torch.dtype) -> None:
    check_same_bytes(device, dtype, 48, 3, 77, 3, {}, launches=3)


@pytest.mark.gpu
@pytest.mark.parametrize("shares", [2, 12, None])
def test_full_shapes_again(
    device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig, shares: int | None
) -> None:
    count = shares or launch.cross_shares
    check_same_bytes(device, half, width, width // HEAD_DIM, KEYS, count, options_of(launch), launches=50)
