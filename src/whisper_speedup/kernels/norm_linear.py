"""Layer norm fused into the small-batch product that follows it, with an optional exact GELU.

    y = act(norm(x) W^T + b),    norm(x) = (x - mean) * rstd * gamma + beta

The norm is applied to the product and not to its input, so that no load waits for the statistics:

    norm(x) W^T + b = rstd * ((x * gamma) W^T - mean * (W gamma)) + (W beta + b)

`x * gamma` and the statistics come with the residual stream (stream.py); `W gamma` and `W beta + b` are made once, in
fp32, by `fold_norm`. x * gamma is rounded to the weights' type for the tensor cores, which is the rounding that a
half-precision layer norm output has anyway. The weights are the tall operand of the tensor cores and x the narrow one.

Weights in 8 bits (eight_bits.py) come with a scale for each row of W, which multiplies the sum; the norm is exact for
them because `fold_norm` takes the rounded weights.

Bytes: N * K * 2 of weights, half of it in 8 bits, rows * K * 2 of x (from L2 for all programs but the first), rows *
N * 2 written. For large-v2's query/key/value (3840 x 1280) in fp16 that is 9.8 MB, 3.3 us at 3.0 TB/s.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.eight_bits import check_weight
from whisper_speedup.kernels.stream import (
    ROWS,
    Stream,
    let_next_start,
    load_sums,
    norm_statistics,
    pdl_option,
    wait_for_inputs,
)
from whisper_speedup.kernels.widened import widened


def fold_norm(
    weight: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    scale: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`W gamma` and `W beta + b`, both (N,) fp32, from W (N, K), b (N,), gamma and beta (K,).

    `scale` (N,): of a weight in 8 bits, so that both are those of what it stands for.
    """
    both = torch.stack([gamma.float(), beta.float()], dim=1)
    # Some rows at a time: the whole vocabulary in fp32 would be the engine's peak of memory.
    folded = torch.cat([rows.float() @ both for rows in weight.split(4096)])
    if scale is not None:
        folded *= scale[:, None]
    return folded[:, 0].contiguous(), folded[:, 1] + bias.float()


def norm_linear_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    gelu: bool = False,
) -> torch.Tensor:
    """What the kernel computes, in fp32: x (rows, K), weight (N, K) to (rows, N)."""
    normed = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], gamma.float(), beta.float(), eps)
    y = normed @ weight.float().T + bias.float()
    return torch.nn.functional.gelu(y) if gelu else y


@triton.jit
def normed_product(
    scaled_ptr,
    sums_ptr,
    w_ptr,
    scale_ptr,
    w_gamma_ptr,
    offset_ptr,
    first,
    rows,
    parts,
    n,
    k,
    eps,
    cols,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    """norm(x) W^T + b of the stream's rows from `first` on, for the columns `cols`: fp32 (BLOCK_N, ROWS).

    `scale_ptr`: of weights in 8 bits, a number for each column; None where W is in the stream's type.
    """
    row = tl.arange(0, ROWS)
    live = (row < rows)[None, :]
    # What the product is combined with is asked for first, so that it arrives while the weights do.
    w_gamma = tl.load(w_gamma_ptr + cols, mask=cols < n, other=0.0)
    offset = tl.load(offset_ptr + cols, mask=cols < n, other=0.0)
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + cols, mask=cols < n, other=0.0)
    wait_for_inputs(PDL)
    sums, squares = load_sums(sums_ptr, parts, first + row, k, PARTS, ROWS)
    acc = tl.zeros((BLOCK_N, ROWS), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        w_mask, x_mask = (cols < n)[:, None], live
        if not EVEN_K:
            w_mask, x_mask = w_mask & (inner < k)[None, :], x_mask & (inner < k)[:, None]
        w = tl.load(w_ptr + cols[:, None] * k + inner[None, :], mask=w_mask, other=0.0)
        x = tl.load(scaled_ptr + (first + row)[None, :] * k + inner[:, None], mask=x_mask, other=0.0)
        if scale_ptr is not None:
            w = widened(w, x.dtype)
        acc = tl.dot(w, x, acc)
    let_next_start(PDL)
    if scale_ptr is not None:
        acc = acc * scale[:, None]
    mean, rstd = norm_statistics(sums, squares, k, eps)
    return rstd[None, :] * (acc - mean[None, :] * w_gamma[:, None]) + offset[:, None]


@triton.jit
def _norm_linear_kernel(
    scaled_ptr,
    sums_ptr,
    w_ptr,
    scale_ptr,
    w_gamma_ptr,
    offset_ptr,
    y_ptr,
    rows,
    parts,
    n,
    k,
    eps,
    GELU: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    cols = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    y = normed_product(
        scaled_ptr, sums_ptr, w_ptr, scale_ptr, w_gamma_ptr, offset_ptr, 0, rows, parts, n, k, eps, cols, BLOCK_N,
        BLOCK_K, EVEN_K, PARTS, PDL, ROWS,
    )  # fmt: skip
    if GELU:
        y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
    row = tl.arange(0, ROWS)
    inside = (row < rows)[None, :] & (cols < n)[:, None]
    tl.store(y_ptr + row[None, :] * n + cols[:, None], y.to(y_ptr.dtype.element_ty), mask=inside)


def norm_linear(
    stream: Stream,
    weight: torch.Tensor,
    w_gamma: torch.Tensor,
    offset: torch.Tensor,
    out: torch.Tensor,
    eps: float,
    gelu: bool = False,
    block_n: int = 16,
    block_k: int = 128,
    num_warps: int = 4,
    num_stages: int = 4,
    pdl: bool = False,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Launch on the stream's first rows; writes and returns `out` (rows <= 8, N) in the stream's type.

    The stream must have been left with this norm's gamma. `scale` (N,) fp32: of a weight in 8 bits.
    """
    n, k = weight.shape
    rows = out.shape[0]
    assert rows <= ROWS and stream.width == k and out.shape == (rows, n)
    assert weight.is_contiguous() and out.is_contiguous()
    check_weight(weight, scale, stream.scaled.dtype)
    _norm_linear_kernel[(triton.cdiv(n, block_n),)](
        stream.scaled, stream.sums, weight, scale, w_gamma, offset, out, rows, stream.parts, n, k, eps, gelu, block_n,
        block_k, k % block_k == 0, triton.next_power_of_2(stream.parts), pdl, ROWS,
        num_warps=num_warps, num_stages=num_stages, **pdl_option(pdl),
    )  # fmt: skip
    return out
