"""Layer norm and the query, key and value product, keys and values written into the cache."""

from typing import Any

import pytest
import torch

from tests.kernels.support import EPS, PROMPT, ROW_COUNTS, SMALL, TOLERANCE, close, filled, index, poisoned, random
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.norm_linear import fold_norm
from whisper_speedup.kernels.norm_qkv import norm_qkv, norm_qkv_reference


def check(
    device: torch.device, dtype: torch.dtype, rows: int, d: int, positions: int, beams: int, start: int, prompt: bool,
    block: int, **tile: Any,
) -> None:  # fmt: skip
    x, weight, bias = random(device, dtype, rows, d), random(device, dtype, 3 * d, d), random(device, dtype, 3 * d)
    gamma, beta = random(device, dtype, d), random(device, dtype, d)
    keys, values = random(device, dtype, positions, beams, d), random(device, dtype, positions, beams, d)
    before = keys.clone(), values.clone()
    expected_keys, expected_values = keys.clone(), values.clone()
    query, beyond = poisoned(device, dtype, rows, d)
    folded = fold_norm(weight, bias, gamma, beta)
    norm_qkv(
        filled(x, gamma, block), weight, *folded, query, keys, values, index(device, start), EPS, prompt=prompt, **tile
    )
    expected = norm_qkv_reference(x, weight, bias, gamma, beta, EPS, expected_keys, expected_values, start, prompt)
    close(query, expected, TOLERANCE[dtype])
    assert bool(beyond.isnan().all())

    written = torch.zeros(positions, beams, dtype=torch.bool, device=device)
    if prompt:
        written[start : start + rows, 0] = True
    else:
        written[start, :rows] = True
    for found, wanted, old in zip((keys, values), (expected_keys, expected_values), before, strict=True):
        close(found[written], wanted[written], TOLERANCE[dtype])
        assert torch.equal(found[~written], old[~written]), "other positions and slots must stay as they are"


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize(("rows", "d", "beams", "start"), [(3, 40, 4, 6), (1, 33, 1, 10), (5, 24, 5, 0), (4, 65, 8, 0)])
def test_small_shapes(
    device: torch.device, dtype: torch.dtype, prompt: bool, rows: int, d: int, beams: int, start: int
) -> None:
    check(device, dtype, rows, d, 11, beams, start, prompt, 16, **SMALL)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig) -> None:
    for rows in ROW_COUNTS:
        check(device, half, rows, width, 54, rows, 41, False, 64, **vars(launch.qkv))
    check(device, half, PROMPT, width, 54, 5, 0, True, 64, **vars(launch.qkv))
