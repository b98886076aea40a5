"""Bias and exact GELU, in place."""

import pytest
import torch

from tests.kernels.support import TOLERANCE, close, random
from whisper_speedup.kernels.bias_gelu import bias_gelu, bias_gelu_reference


def check(device: torch.device, dtype: torch.dtype, rows: int, n: int, block: int) -> None:
    whole, bias = random(device, dtype, rows + 1, n), random(device, torch.float32, n)
    x, beyond = whole[:rows], whole[rows:].clone()
    expected = bias_gelu_reference(x, bias)
    bias_gelu(x, bias, 2, block)
    close(x, expected, TOLERANCE[dtype])
    assert torch.equal(whole[rows:], beyond)


@pytest.mark.parametrize(("rows", "n", "block"), [(3, 77, 32), (1, 64, 64), (5, 33, 64)])
def test_small_shapes(device: torch.device, dtype: torch.dtype, rows: int, n: int, block: int) -> None:
    check(device, dtype, rows, n, block)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int) -> None:
    check(device, half, 2999, 4 * width, 1024)
