import pytest
import torch

from tests.kernels.emulation import SHARED
from tests.kernels.support import HEAD_DIM, KEYS, random
from whisper_speedup.kernels.cross_layout import cross_layout
from whisper_speedup.kernels.persistent_packing import pack_cross
from whisper_speedup.kernels.persistent_plan import make_plan


def check(device: torch.device, dtype: torch.dtype, heads: int, keys: int, layers: int, grid: int) -> None:
    """The very bytes of the reference; what stands for no key stays as it was."""
    width = heads * HEAD_DIM
    plan = make_plan(width, 4 * width, heads, keys, 5, grid, SHARED)
    assert plan is not None
    projected, bias = random(device, dtype, 2 * layers, keys, width), random(device, dtype, 2 * layers, 1, width)
    biased = (projected.float() + bias.float()).to(dtype)
    shape = (layers, heads, plan.all_units, 2, 2048)
    out, expected = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
    for layer in range(layers):
        pack_cross(plan, biased[2 * layer], biased[2 * layer + 1], expected[layer])
    for _ in range(2):
        cross_layout(projected, bias, out)
        assert torch.equal(out, expected)
    out.fill_(float("nan"))
    cross_layout(projected, bias, out)
    assert int(out.isfinite().sum()) == projected.numel()


@pytest.mark.parametrize(("heads", "keys", "layers", "grid"), [(2, 70, 2, 9), (3, 32, 1, 13), (1, 20, 1, 4)])
def test_the_reference_s_bytes(
    device: torch.device, dtype: torch.dtype, heads: int, keys: int, layers: int, grid: int
) -> None:
    check(device, dtype, heads, keys, layers, grid)


@pytest.mark.gpu
def test_full_shape(device: torch.device, half: torch.dtype, width: int) -> None:
    check(device, half, width // HEAD_DIM, KEYS, 4, 132)
