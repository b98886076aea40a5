"""Self-attention of a step through the ancestry table."""

from typing import Any

import pytest
import torch

from tests.kernels.support import (
    HEAD_DIM,
    POSITIONS,
    PROMPT,
    ROW_COUNTS,
    TOLERANCE,
    close,
    index,
    poisoned,
    random,
)
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.self_attention import self_attention, self_attention_reference


def check(
    device: torch.device, dtype: torch.dtype, rows: int, d: int, heads: int, positions: int, beams: int, start: int,
    prompt: bool, **options: Any,
) -> None:  # fmt: skip
    # All scores far below zero: a position that is not there, with its score of 0, would take the whole weight.
    query = -random(device, dtype, rows, d).abs() - 1
    keys, values = random(device, dtype, positions, beams, d).abs() + 1, random(device, dtype, positions, beams, d)
    # Positions not written yet hold anything.
    known = start + rows if prompt else start + 1
    keys[known:], values[known:] = float("nan"), float("nan")
    ancestry = torch.randint(0, beams, (rows + 2, positions), dtype=torch.int32, device=device)
    out, beyond = poisoned(device, dtype, rows, d)
    self_attention(query, keys, values, ancestry, index(device, start), out, heads, prompt=prompt, **options)
    close(out, self_attention_reference(query, keys, values, ancestry, start, prompt, heads), TOLERANCE[dtype])
    assert bool(beyond.isnan().all())


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize(
    ("rows", "d", "heads", "beams", "start"),
    [(3, 40, 5, 4, 6), (1, 48, 3, 1, 0), (5, 21, 3, 5, 3), (8, 32, 2, 8, 2), (2, 64, 1, 3, 8)],
)
def test_small_shapes(
    device: torch.device, dtype: torch.dtype, prompt: bool, rows: int, d: int, heads: int, beams: int, start: int
) -> None:
    check(device, dtype, rows, d, heads, 11, beams, start, prompt, block_t=4)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig) -> None:
    options = {"block_t": launch.self_block, "num_warps": launch.self_warps}
    heads = width // HEAD_DIM
    for rows in ROW_COUNTS:
        for start in (PROMPT, 63, 64, POSITIONS - 1):
            check(device, half, rows, width, heads, POSITIONS, rows, start, False, **options)
    check(device, half, PROMPT, width, heads, POSITIONS, 5, 0, True, **options)
