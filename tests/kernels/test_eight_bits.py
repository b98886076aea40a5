"""Weights in 8 bits: the rounding itself, and each product that reads them against the weights that they stand for.

Rounding is no error here: the reference has the rounded weights. They are exact in the activations' type, so the
tolerances are those of the products with weights in that type.
"""

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from tests.kernels.support import (
    ACCUMULATED,
    EPS,
    SMALL,
    TOLERANCE,
    check_left_for_norm,
    close,
    filled,
    index,
    launch_again,
    poisoned,
    random,
)
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels.eight_bits import (
    DTYPES,
    LARGEST,
    ROWS_AT_ONCE,
    EightBits,
    WeightFormat,
    dequantised,
    quantised,
)
from whisper_speedup.kernels.linear_residual import linear_residual, linear_residual_reference
from whisper_speedup.kernels.norm_linear import fold_norm, norm_linear, norm_linear_reference
from whisper_speedup.kernels.norm_qkv import norm_qkv, norm_qkv_reference
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.kernels.vocabulary import vocabulary, vocabulary_reference
from whisper_speedup.kernels.widened import widened


@pytest.fixture(params=list(DTYPES))
def rounding(request: pytest.FixtureRequest) -> WeightFormat:
    """A format where only torch rounds, which any device does."""
    return request.param


def uneven(device: torch.device, n: int, k: int) -> torch.Tensor:
    """Rows of very different sizes, which one scale for all of them would not serve."""
    return torch.randn(n, k, device=device) * torch.logspace(-4, 1, n, device=device)[:, None]


def rounded(device: torch.device, weights: WeightFormat, n: int, k: int) -> EightBits:
    return quantised(torch.randn(n, k, device=device) * torch.logspace(-1, 1, n, device=device)[:, None], weights)


def test_every_weight_moves_by_half_a_step_at_most(device: torch.device, rounding: WeightFormat) -> None:
    weight = uneven(device, 37, 129)
    found = quantised(weight, rounding)
    assert (found.values.dtype, found.scale.dtype) == (DTYPES[rounding], torch.float32)
    moved = (found.dequantised() - weight).abs()
    if rounding == "int8":
        allowed = (found.scale / 2)[:, None].expand_as(moved)
    else:  # three bits of mantissa, and steps of 2^-9 of a scale where the exponent ends
        allowed = torch.maximum(weight.abs() / 16, found.scale[:, None] * 2**-10)
    assert bool((moved <= allowed * (1 + 1e-5)).all())
    assert float(moved.norm() / weight.norm()) > 1e-3, "nothing was rounded"


def test_the_largest_weight_of_a_row_is_the_formats_largest_value(device: torch.device, rounding: WeightFormat) -> None:
    weight = uneven(device, 37, 129)
    found = quantised(weight, rounding)
    largest = LARGEST[DTYPES[rounding]]
    assert bool((found.values.float().abs().amax(1) == largest).all())
    torch.testing.assert_close(found.scale, weight.abs().amax(1) / largest)
    mirrored = quantised(-weight, rounding)
    assert torch.equal(mirrored.values.float(), -found.values.float())


def test_rounding_twice_is_rounding_once(device: torch.device, rounding: WeightFormat) -> None:
    once = dequantised(uneven(device, 37, 129), rounding)
    torch.testing.assert_close(dequantised(once, rounding), once, rtol=1e-6, atol=0)


def test_rows_do_not_see_each_other(device: torch.device, rounding: WeightFormat) -> None:
    weight = torch.randn(ROWS_AT_ONCE + 3, 8, device=device)
    found = quantised(weight, rounding)
    for row in (0, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 2):
        alone = quantised(weight[row : row + 1], rounding)
        assert torch.equal(alone.values.float()[0], found.values.float()[row])
        assert torch.equal(alone.scale[0], found.scale[row])


def test_zeros_and_what_is_no_number(device: torch.device, rounding: WeightFormat) -> None:
    weight = torch.ones(4, 8, device=device)
    weight[0], weight[1] = 0, 1e-45
    weight[2, 3], weight[3, 3] = float("nan"), float("inf")
    found = dequantised(weight, rounding)
    assert torch.equal(found[0], weight[0])
    assert bool((found[1].abs() <= 1e-44).all())
    assert bool(found[2:].isnan().any(1).all()), "damaged weights must stay visible"


def test_every_value_is_exact_in_the_activations_types(device: torch.device) -> None:
    for weights, dtype in DTYPES.items():
        bytes_ = torch.arange(256, dtype=torch.int16, device=device).to(torch.uint8)
        values = bytes_.view(dtype).float()
        values = values[values.isfinite() & (values.abs() <= LARGEST[dtype])]
        assert values.numel() >= 254, weights
        for kind in (torch.float16, torch.bfloat16):
            assert torch.equal(values.to(kind).float(), values)


@triton.jit
def _widened_kernel(w_ptr, out_ptr, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    tl.store(out_ptr + place, widened(tl.load(w_ptr + place), out_ptr.dtype.element_ty))


def test_every_value_is_widened_exactly(device: torch.device, dtype: torch.dtype, weights: WeightFormat) -> None:
    values = torch.arange(256, dtype=torch.int16, device=device).to(torch.uint8).view(DTYPES[weights])
    out = torch.zeros(256, device=device, dtype=dtype)
    _widened_kernel[(1,)](values, out, 256)
    numbers = values.float().isfinite()  # a NaN's row has a scale that is NaN, which is what shows it
    assert int(numbers.sum()) >= 254
    assert torch.equal(out.float()[numbers], values.float()[numbers])


def check_norm_linear(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, n: int, k: int, gelu: bool,
    block: int = 16, **tile: Any,
) -> None:  # fmt: skip
    x, bias = random(device, dtype, rows, k) * 2 + 0.3, random(device, dtype, n)
    gamma, beta = random(device, dtype, k), random(device, dtype, k)
    weight = rounded(device, weights, n, k)
    out, beyond = poisoned(device, dtype, rows, n)
    folded = fold_norm(weight.values, bias, gamma, beta, weight.scale)
    norm_linear(filled(x, gamma, block), weight.values, *folded, out, EPS, gelu=gelu, **tile, scale=weight.scale)
    close(out, norm_linear_reference(x, weight.dequantised(), bias, gamma, beta, EPS, gelu), TOLERANCE[dtype])
    assert bool(beyond.isnan().all())


def check_norm_qkv(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, d: int, prompt: bool, block: int = 16,
    **tile: Any,
) -> None:  # fmt: skip
    positions, beams, start = 11, 5, 0 if prompt else 6
    x, bias = random(device, dtype, rows, d), random(device, dtype, 3 * d)
    gamma, beta = random(device, dtype, d), random(device, dtype, d)
    keys, values = random(device, dtype, positions, beams, d), random(device, dtype, positions, beams, d)
    expected = keys.clone(), values.clone()
    weight = rounded(device, weights, 3 * d, d)
    query, beyond = poisoned(device, dtype, rows, d)
    folded = fold_norm(weight.values, bias, gamma, beta, weight.scale)
    norm_qkv(
        filled(x, gamma, block), weight.values, *folded, query, keys, values, index(device, start), EPS, prompt=prompt,
        **tile, scale=weight.scale,
    )  # fmt: skip
    plain = weight.dequantised()
    close(query, norm_qkv_reference(x, plain, bias, gamma, beta, EPS, *expected, start, prompt), TOLERANCE[dtype])
    for found, wanted in zip((keys, values), expected, strict=True):
        close(found, wanted, TOLERANCE[dtype])
    assert bool(beyond.isnan().all())


def check_linear_residual(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, n: int, k: int, splits: int,
    block: int = 16, **tile: Any,
) -> None:  # fmt: skip
    gamma = random(device, dtype, n)
    stream = filled(random(device, dtype, rows, n), gamma, block)
    for _ in range(2):  # the second launch finds the arrival counts as the first left them
        x, bias, weight = random(device, dtype, rows, k), random(device, dtype, n), rounded(device, weights, n, k)
        expected = linear_residual_reference(x, weight.dequantised(), bias, stream.residual[:rows])
        linear_residual(x, weight.values, bias, stream, gamma, splits=splits, **tile, scale=weight.scale)
        close(stream.residual[:rows], expected, min(ACCUMULATED, TOLERANCE[dtype]))
        check_left_for_norm(stream, expected, gamma)
        assert not bool(stream.arrived.any())


def check_vocabulary(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, d: int, size: int, block: int = 16,
    **tile: Any,
) -> None:  # fmt: skip
    """test_vocabulary.py has the candidates' order and rules; here they are to be those of the rounded weights."""
    keep = 4
    x, gamma, beta = random(device, dtype, rows, d), random(device, dtype, d), random(device, dtype, d)
    weight = quantised(torch.randn(size, d, device=device) * d**-0.5, weights)
    tiles = triton.cdiv(size, tile["block_n"])
    peak, norm = (torch.full((tiles, ROWS), float("nan"), device=device) for _ in range(2))
    candidates = torch.zeros(tiles, ROWS, keep, dtype=torch.int64, device=device)
    folded = fold_norm(weight.values, torch.zeros(size, device=device), gamma, beta, weight.scale)
    vocabulary(
        filled(x, gamma, block), 0, rows, weight.values, *folded, torch.zeros(size, dtype=torch.int8, device=device),
        index(device, 9), peak, norm, candidates, EPS, 4, 1, **tile, scale=weight.scale,
    )  # fmt: skip
    plain, tolerance = weight.dequantised(), 6 * TOLERANCE[dtype]  # as test_vocabulary.py's
    allowed = torch.zeros(size, dtype=torch.bool, device=device)
    best, _, total = vocabulary_reference(x, plain, gamma, beta, EPS, allowed, keep)
    highest = peak[:, :rows].amax(0)
    found = (norm[:, :rows] * (peak[:, :rows] - highest).exp()).sum(0).log() + highest
    torch.testing.assert_close(found, total, rtol=0, atol=tolerance)
    torch.testing.assert_close(highest, best[:, 0], rtol=0, atol=tolerance)
    merged = candidates[:, :rows].transpose(0, 1).reshape(rows, -1).sort(dim=1, descending=True).values[:, :keep]
    tokens = 0x7FFFFFFF - (merged & 0x7FFFFFFF)
    logits = norm_linear_reference(x, plain, torch.zeros(size, device=device), gamma, beta, EPS)
    torch.testing.assert_close(logits.gather(1, tokens), best, rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize(
    ("rows", "n", "k", "gelu"), [(5, 40, 72, False), (1, 33, 48, True), (8, 16, 100, True), (7, 65, 129, True)]
)
def test_norm_linear(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, n: int, k: int, gelu: bool
) -> None:
    check_norm_linear(device, dtype, weights, rows, n, k, gelu, **SMALL)


@pytest.mark.parametrize(("rows", "d", "prompt"), [(3, 40, False), (5, 33, False), (4, 65, True)])
def test_norm_qkv(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, d: int, prompt: bool
) -> None:
    check_norm_qkv(device, dtype, weights, rows, d, prompt, **SMALL)


@pytest.mark.parametrize(
    ("rows", "n", "k", "splits"), [(5, 40, 72, 1), (3, 40, 200, 3), (1, 17, 33, 1), (2, 17, 33, 4)]
)
def test_linear_residual(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, n: int, k: int, splits: int
) -> None:
    check_linear_residual(device, dtype, weights, rows, n, k, splits, **SMALL)


@pytest.mark.parametrize(("rows", "d", "size"), [(3, 32, 203), (1, 40, 131), (5, 33, 197)])
def test_vocabulary(
    device: torch.device, dtype: torch.dtype, weights: WeightFormat, rows: int, d: int, size: int
) -> None:
    check_vocabulary(device, dtype, weights, rows, d, size, block_n=64, block_k=16, num_stages=1)


def test_the_scales_must_be_there(device: torch.device) -> None:
    weight = rounded(device, "int8", 16, 32)
    stream = filled(random(device, torch.float32, 2, 32), torch.ones(32, device=device))
    out, zeros = torch.zeros(2, 16, device=device), torch.zeros(16, device=device)
    for values, scale in ((weight.values, None), (weight.dequantised(), weight.scale), (weight.values, zeros[:8])):
        with pytest.raises(AssertionError):
            norm_linear(stream, values, zeros, zeros, out, EPS, **SMALL, scale=scale)


@pytest.mark.gpu
def test_full_shapes(
    device: torch.device, half: torch.dtype, weights: WeightFormat, width: int, launch: LaunchConfig
) -> None:
    for rows in (1, 5, 8):
        check_norm_linear(device, half, weights, rows, width, width, False, 64, **vars(launch.query))
        check_norm_linear(device, half, weights, rows, 4 * width, width, True, 64, **vars(launch.fc1))
        check_linear_residual(
            device, half, weights, rows, width, width, launch.out_splits, 64, **vars(launch.out)
        )  # fmt: skip
        check_linear_residual(
            device, half, weights, rows, width, 4 * width, launch.fc2_splits, 64, **vars(launch.fc2)
        )  # fmt: skip
        check_vocabulary(device, half, weights, rows, width, 51865, 64, **vars(launch.vocabulary))
    check_norm_qkv(device, half, weights, 5, width, False, 64, **vars(launch.qkv))
    check_norm_qkv(device, half, weights, 4, width, True, 64, **vars(launch.qkv))


@pytest.mark.gpu
def test_full_shapes_again(device: torch.device, half: torch.dtype, weights: WeightFormat) -> None:
    launch, width = LaunchConfig(), 1280
    gamma = random(device, half, width)
    stream = filled(random(device, half, 5, width), gamma)
    start = stream.residual.clone()
    x, bias = random(device, half, 5, 4 * width), random(device, half, width)
    weight = rounded(device, weights, width, 4 * width)

    def run() -> tuple[torch.Tensor, ...]:
        stream.residual.copy_(start)
        linear_residual(x, weight.values, bias, stream, gamma, splits=4, **vars(launch.fc2), scale=weight.scale)
        return stream.residual, stream.scaled, stream.sums[:, : stream.parts]

    launch_again(50, run)
