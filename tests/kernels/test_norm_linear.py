"""Layer norm and the product behind it."""

from typing import Any

import pytest
import torch

from tests.kernels.support import EPS, ROW_COUNTS, SMALL, TOLERANCE, close, filled, poisoned, random
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.norm_linear import fold_norm, norm_linear, norm_linear_reference


def check(
    device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, gelu: bool, block: int, **tile: Any
) -> None:
    x = random(device, dtype, rows, k) * 2 + 0.3
    weight, bias = random(device, dtype, n, k), random(device, dtype, n)
    gamma, beta = random(device, dtype, k), random(device, dtype, k)
    out, beyond = poisoned(device, dtype, rows, n)
    folded = fold_norm(weight, bias, gamma, beta)
    norm_linear(filled(x, gamma, block), weight, *folded, out, EPS, gelu=gelu, **tile)
    close(out, norm_linear_reference(x, weight, bias, gamma, beta, EPS, gelu), TOLERANCE[dtype])
    assert bool(beyond.isnan().all())


@pytest.mark.parametrize(
    ("rows", "n", "k", "gelu"),
    [(5, 40, 72, False), (1, 33, 48, True), (8, 16, 100, True), (3, 47, 65, False), (7, 65, 129, True)],
)
def test_small_shapes(device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, gelu: bool) -> None:
    check(device, dtype, rows, n, k, gelu, 16, **SMALL)


def test_gelu_is_exact(device: torch.device) -> None:
    """The tanh approximation is off by up to 5e-4, which no tolerance of a whole random result would show."""
    k, n = 16, 33
    x = torch.randn(1, k, device=device)
    gamma, beta = torch.ones(k, device=device), torch.zeros(k, device=device)
    weight, bias = torch.zeros(n, k, device=device), torch.linspace(-6, 6, n, device=device)
    out, _ = poisoned(device, torch.float32, 1, n)
    norm_linear(filled(x, gamma), weight, *fold_norm(weight, bias, gamma, beta), out, EPS, gelu=True, **SMALL)
    exact = torch.nn.functional.gelu(bias.double())[None]
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=2e-6)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig) -> None:
    for n, gelu, tile in ((width, False, launch.query), (4 * width, True, launch.fc1)):
        for rows in ROW_COUNTS:
            check(device, half, rows, n, width, gelu, 64, **vars(tile))
