"""Cross-attention of many slots: each over its own keys, those that are done left out."""

import pytest
import torch

from tests.kernels.support import HEAD_DIM, KEYS, TOLERANCE, close, launch_again, random
from whisper_speedup.fused.batch_decoder import BatchLaunch
from whisper_speedup.kernels.batch_cross_attention import (
    BatchCrossScratch,
    batch_cross_attention,
    batch_cross_attention_reference,
)


def inputs(
    device: torch.device, dtype: torch.dtype, slots: int, beams: int, d: int, count: int
) -> tuple[torch.Tensor, ...]:
    """Query, offset, keys and values; keys and values are views of one tensor, as the engine's are."""
    # All scores far below zero: a key that is not there, with its score of 0, would take the whole weight.
    query = -random(device, dtype, slots * beams, d).abs() - 1
    both = random(device, dtype, slots, 2, count, d)
    both[:, 0] = both[:, 0].abs() + 1
    return query, random(device, torch.float32, d) * 0.1, both[:, 0], both[:, 1]


def check(
    device: torch.device, dtype: torch.dtype, slots: int, beams: int, d: int, heads: int, count: int, shares: int,
    block: int, num_warps: int = 4, stages: int = 1,
) -> None:  # fmt: skip
    scratch = BatchCrossScratch(slots, heads, d // heads, shares, device)
    for buffer in (scratch.partial, scratch.peak, scratch.norm):
        buffer.fill_(float("nan"))
    done = torch.zeros(slots, dtype=torch.int32, device=device)
    done[slots // 2] = 1
    left_out = slice(slots // 2 * beams, (slots // 2 + 1) * beams)
    for _ in range(2):  # the second launch finds the arrival counts as the first left them
        query, offset, keys, values = inputs(device, dtype, slots, beams, d, count)
        out = torch.full((slots * beams, d), 7.0, device=device, dtype=dtype)
        batch_cross_attention(query, offset, keys, values, done, out, heads, beams, scratch, block, num_warps, stages)
        expected = batch_cross_attention_reference(query, offset, keys, values, heads)
        assert bool((out[left_out] == 7.0).all())
        expected[left_out] = 7.0
        close(out, expected, 2 * TOLERANCE[dtype])  # the query is rounded once more, with its bias
        assert not bool(scratch.arrived.any())


@pytest.mark.parametrize(
    ("slots", "beams", "count", "shares", "block"),
    [(3, 5, 77, 1, 16), (3, 5, 77, 3, 32), (2, 8, 92, 5, 16), (3, 1, 33, 2, 32), (2, 3, 5, 5, 16)],
)
def test_small_shapes(
    device: torch.device, dtype: torch.dtype, slots: int, beams: int, count: int, shares: int, block: int
) -> None:
    check(device, dtype, slots, beams, 48, 3, count, shares, block)


def test_as_many_keys_as_a_window_has(device: torch.device, dtype: torch.dtype) -> None:
    check(device, dtype, 2, 5, 16, 1, KEYS, 2, 256)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int) -> None:
    launch = BatchLaunch()
    for slots, beams in ((7, 5), (3, 1), (2, 8)):
        check(
            device, half, slots, beams, width, width // HEAD_DIM, KEYS, launch.cross_shares, launch.cross_block,
            launch.cross_warps, launch.cross_stages,
        )  # fmt: skip


def check_company(device: torch.device, dtype: torch.dtype, d: int, heads: int, count: int, launches: int) -> None:
    """The same bytes every time, and for a slot whatever the other slots hold."""
    scratch = BatchCrossScratch(3, heads, d // heads, 3, device)
    query, offset, keys, values = inputs(device, dtype, 3, 5, d, count)
    done = torch.zeros(3, dtype=torch.int32, device=device)

    def run() -> tuple[torch.Tensor, ...]:
        out = torch.zeros(15, d, device=device, dtype=dtype)
        batch_cross_attention(query, offset, keys, values, done, out, heads, 5, scratch, 32)
        return (out,)

    launch_again(launches, run)
    (before,) = run()
    keys[[0, 2]], values[[0, 2]] = 5.0, float("nan")
    assert torch.equal(run()[0][5:10], before[5:10])


def test_small_shapes_in_other_company(device: torch.device, dtype: torch.dtype) -> None:
    check_company(device, dtype, 48, 3, 77, launches=2)


@pytest.mark.gpu
def test_full_shapes_in_other_company(device: torch.device, half: torch.dtype, width: int) -> None:
    check_company(device, half, width, width // HEAD_DIM, KEYS, launches=20)
