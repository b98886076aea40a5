"""Weights in 8 bits, one scale a row: int8, or float8 with 4 bits of exponent and 3 of mantissa (e4m3).

    scale_n = max_k |W_nk| / LARGEST;    q_nk = round(W_nk / scale_n);    W_nk is taken for q_nk * scale_n

A row is an output column of the product, so its scale leaves the sum, and a kernel multiplies once, behind it:

    (x W^T)_n = scale_n * sum_k x_k q_nk

q is exact in fp16 and in fp32 (bf16 has 8 bits of mantissa: enough for both formats too), so the tensor cores work on
the activations' type as before, and rounding W is all that changes. int8 keeps to -127..127, so that it is symmetric;
e4m3 has no infinity and ends at 448. int8's error is half a step everywhere, scale / 2; e4m3's is 1/16 of the weight
at most, down to 2^-6 of a scale, and half of 2^-9 of a scale below that. So int8 is the finer one near a row's largest
weight, and e4m3 near zero.

Bytes: N * K read instead of 2 * N * K, and N * 4 of scales.

norm_linear.py, norm_qkv.py, linear_residual.py and vocabulary.py read such weights, by widened.py. Nothing here needs
Triton.
"""

from dataclasses import dataclass
from typing import Literal

import torch

WeightFormat = Literal["int8", "fp8"]
DTYPES: dict[WeightFormat, torch.dtype] = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
ROWS_AT_ONCE = 4096  # the whole vocabulary in fp32 would be an engine's peak of memory


@dataclass(frozen=True)
class EightBits:
    """A rounded matrix: `values` (N, K) int8 or float8_e4m3fn, `scale` (N,) fp32."""

    values: torch.Tensor
    scale: torch.Tensor

    def dequantised(self) -> torch.Tensor:
        """The weights that these values stand for, (N, K) fp32."""
        return self.values.float() * self.scale[:, None]


def quantised(weight: torch.Tensor, weights: WeightFormat) -> EightBits:
    """W (N, K), floating point, rounded to a format, on its own device. A row of zeros has scale 1."""
    dtype = DTYPES[weights]
    values = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    scale = torch.empty(weight.shape[0], dtype=torch.float32, device=weight.device)
    for first in range(0, weight.shape[0], ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        values[some], scale[some] = _rounded(weight[some].detach().float(), dtype)
    return EightBits(values, scale)


def dequantised(weight: torch.Tensor, weights: WeightFormat) -> torch.Tensor:
    """W (N, K) as a format keeps it: rounded and back, fp32."""
    return quantised(weight, weights).dequantised()


def check_weight(weight: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype) -> None:
    """What a product's wrapper takes: W (N, K) in the activations' `dtype`, or in 8 bits with its scales."""
    if scale is None:
        assert weight.dtype == dtype
    else:
        assert weight.dtype in LARGEST and scale.dtype == torch.float32 and scale.shape == weight.shape[:1]


def _rounded(rows: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    largest = rows.abs().amax(dim=1)
    scale = largest / LARGEST[dtype]
    scale = torch.where(scale == 0, 1.0, scale)  # and not of NaN, which must show
    # W / scale can come out an ulp above the largest value, which e4m3 would make NaN of.
    steps = (rows / scale[:, None]).clamp(-LARGEST[dtype], LARGEST[dtype])
    return (steps.round() if dtype == torch.int8 else steps).to(dtype), scale
