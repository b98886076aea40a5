import pytest
import torch

from tests.kernels.support import EPS, KEYS, TOLERANCE, close, launch_again, random
from whisper_speedup.kernels.residual_norm import residual_norm, residual_norm_reference


def check(device: torch.device, dtype: torch.dtype, rows: int, width: int, with_bias: bool, limit: float) -> None:
    x, gamma, beta = random(device, dtype, rows, width) * 3, random(device, dtype, width), random(device, dtype, width)
    bias = random(device, dtype, width) if with_bias else None
    stream, expected = residual_norm_reference(x, bias, limit, gamma, beta, EPS)
    found = x.clone()
    y = residual_norm(found, bias, limit, gamma, beta, EPS)
    assert torch.equal(found, stream)
    close(y, expected, TOLERANCE[dtype])

    def again() -> tuple[torch.Tensor, ...]:
        copy = x.clone()
        return residual_norm(copy, bias, limit, gamma, beta, EPS), copy

    launch_again(3, again)


@pytest.mark.parametrize(("rows", "width", "with_bias", "limit"), [(3, 32, True, 2.0), (5, 96, False, float("inf"))])
def test_against_the_reference(
    device: torch.device, dtype: torch.dtype, rows: int, width: int, with_bias: bool, limit: float
) -> None:
    check(device, dtype, rows, width, with_bias, limit)


def test_nan_is_not_clamped_away(device: torch.device, dtype: torch.dtype) -> None:
    x, one = torch.zeros(2, 16, device=device, dtype=dtype), torch.ones(16, device=device, dtype=dtype)
    x[1, 3] = float("nan")
    y = residual_norm(x, None, 2.0, one, one, EPS)
    assert bool(y[1].isnan().all())
    assert bool(y[0].isfinite().all())


@pytest.mark.gpu
def test_full_shape(device: torch.device, half: torch.dtype, width: int) -> None:
    check(device, half, KEYS, width, True, torch.finfo(torch.float16).max - 1000)
