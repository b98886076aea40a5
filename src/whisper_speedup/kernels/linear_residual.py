"""The small-batch product that ends a block, added to the residual stream in place.

    r <- r + x W^T + b

x is in the weights' type, the residual stream in fp32: 32 layers add to it 96 times, and fp32 keeps each addition's
rounding out of the text. Each program owns its columns of r, so adding in place is safe; it also leaves r * gamma and
the partial sums that the next layer norm needs (stream.py).

A long K over few columns leaves SMs idle, so K can be split: each program of a column tile writes its partial product,
and the last to arrive adds them in the order of the splits, so the result does not depend on who was last.

A weight in 8 bits (eight_bits.py) has a scale for each of its rows, which multiplies the whole sum.

Bytes: N * K * 2 of weights, half of it in 8 bits, rows * K * 2 of x (from L2 for all programs but the first), rows *
N * 10 of the stream. For large-v2's fc2 (1280 x 5120) in fp16 that is 13.1 MB, 4.4 us at 3.0 TB/s; for an output
product (1280 x 1280) 1.1 us.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.eight_bits import check_weight
from whisper_speedup.kernels.stream import (
    ROWS,
    Stream,
    leave_for_norm,
    let_next_start,
    pdl_option,
    wait_for_inputs,
)
from whisper_speedup.kernels.widened import widened


def linear_residual_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    """What the kernel computes, in fp32: x (rows, K), weight (N, K), residual (rows, N) to (rows, N)."""
    return residual.float() + x.float() @ weight.float().T + bias.float()


@triton.jit
def _linear_residual_kernel(
    x_ptr,
    w_ptr,
    scale_ptr,
    bias_ptr,
    r_ptr,
    gamma_ptr,
    scaled_ptr,
    sums_ptr,
    partial_ptr,
    arrived_ptr,
    rows,
    n,
    k,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    SPLITS: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    part = tl.program_id(0)
    split = tl.program_id(1)
    cols = part * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.arange(0, ROWS)
    live = (row < rows)[None, :]
    # What the product is added to is asked for first, so that it arrives while the weights do.
    bias = tl.load(bias_ptr + cols, mask=cols < n, other=0.0).to(tl.float32)
    gamma = tl.load(gamma_ptr + cols, mask=cols < n, other=0.0).to(tl.float32)
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + cols, mask=cols < n, other=0.0)
    wait_for_inputs(PDL)
    inside = live & (cols < n)[:, None]
    place = r_ptr + row[None, :] * n + cols[:, None]
    before = tl.load(place, mask=inside, other=0.0)
    acc = tl.zeros((BLOCK_N, ROWS), dtype=tl.float32)
    share = tl.cdiv(tl.cdiv(k, SPLITS), BLOCK_K) * BLOCK_K
    for start in range(split * share, tl.minimum(split * share + share, k), BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        w_mask, x_mask = (cols < n)[:, None], live
        if not EVEN_K:
            w_mask, x_mask = w_mask & (inner < k)[None, :], x_mask & (inner < k)[:, None]
        w = tl.load(w_ptr + cols[:, None] * k + inner[None, :], mask=w_mask, other=0.0)
        x = tl.load(x_ptr + row[None, :] * k + inner[:, None], mask=x_mask, other=0.0)
        if scale_ptr is not None:
            w = widened(w, x.dtype)
        acc = tl.dot(w, x, acc)
    let_next_start(PDL)
    if SPLITS > 1:
        narrow = tl.arange(0, BLOCK_N)[:, None] * ROWS + row[None, :]
        tl.store(partial_ptr + (part * SPLITS + split) * BLOCK_N * ROWS + narrow, acc)
        # All threads' stores must be out before the count says so, and no load may run ahead of it.
        tl.debug_barrier()
        others = tl.atomic_add(arrived_ptr + part, 1, sem="acq_rel")
        tl.debug_barrier()
        if others < SPLITS - 1:
            return
        acc = tl.zeros((BLOCK_N, ROWS), dtype=tl.float32)
        for other in tl.static_range(SPLITS):
            acc += tl.load(partial_ptr + (part * SPLITS + other) * BLOCK_N * ROWS + narrow, cache_modifier=".cg")
        tl.store(arrived_ptr + part, 0)  # ready for the next launch
    if scale_ptr is not None:
        acc = acc * scale[:, None]
    r = before + acc + bias[:, None]
    tl.store(place, r, mask=inside)
    leave_for_norm(r, inside, row, cols, gamma, scaled_ptr, sums_ptr, part, n, ROWS)


def linear_residual(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stream: Stream,
    gamma: torch.Tensor,
    block_n: int = 16,
    block_k: int = 128,
    num_warps: int = 4,
    num_stages: int = 4,
    splits: int = 1,
    pdl: bool = False,
    scale: torch.Tensor | None = None,
) -> Stream:
    """Launch on x (rows <= 8, K) in the stream's type; adds to the stream's first rows and leaves it for `gamma`.

    `scale` (N,) fp32: of a weight in 8 bits.
    """
    rows, k = x.shape
    n = weight.shape[0]
    assert rows <= ROWS and weight.shape[1] == k and stream.width == n and gamma.shape == (n,) and block_n >= 8
    check_weight(weight, scale, x.dtype)
    assert x.is_contiguous() and weight.is_contiguous()
    parts = triton.cdiv(n, block_n)
    partial, arrived = stream.split_scratch(parts * splits * block_n, parts)
    _linear_residual_kernel[(parts, splits)](
        x, weight, scale, bias, stream.residual, gamma, stream.scaled, stream.sums, partial, arrived, rows, n, k,
        block_n, block_k, k % block_k == 0, splits, pdl, ROWS,
        num_warps=num_warps, num_stages=num_stages, **pdl_option(pdl),
    )  # fmt: skip
    stream.wrote(parts)
    return stream
