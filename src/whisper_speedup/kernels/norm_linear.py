"""Layer norm fused into the small-batch product that follows it, with an optional exact GELU.

    y = act(norm(x) W^T + b),    norm(x) = (x - mean) * rstd * gamma + beta

The norm's statistics are not known before a row is read once, and waiting for them would leave the memory idle. So
the product runs on x * gamma while the same loop gathers the statistics, and the norm is applied to the result:

    norm(x) W^T + b = rstd * ((x * gamma) W^T - mean * (W gamma)) + (W beta + b)

`W gamma` and `W beta + b` are made once, in fp32, by `fold_norm`. x is the fp32 residual stream; x * gamma is rounded
to the weights' type for the tensor cores, which is the rounding that a half-precision layer norm output has anyway.

Bytes: N * K * 2 of weights, rows * K * 4 of x (from L2 for all programs but the first), rows * N * 2 written.
For large-v2's query/key/value (3840 x 1280) that is 9.8 MB, 3.3 us at 3.0 TB/s.
"""

import torch
import triton
import triton.language as tl

ROWS = 8  # the narrow side of a tensor-core tile; beams, or a prompt's tokens, fill the first few


def fold_norm(
    weight: torch.Tensor, bias: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`W gamma` and `W beta + b`, both (N,) fp32, from W (N, K), b (N,), gamma and beta (K,)."""
    wide = weight.float()
    return wide @ gamma.float(), wide @ beta.float() + bias.float()


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
    x_ptr,
    gamma_ptr,
    w_ptr,
    w_gamma_ptr,
    offset_ptr,
    rows,
    n,
    k,
    eps,
    cols,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """norm(x) W^T + b for the columns `cols` (BLOCK_N,), transposed: fp32 (BLOCK_N, ROWS).

    The weights are the tall operand of the tensor cores and x the narrow one, so that no row is wasted. The
    statistics gather element by element and are summed once at the end: a sum in each turn would stall the loads.
    """
    row = tl.arange(0, ROWS)
    acc = tl.zeros((BLOCK_N, ROWS), dtype=tl.float32)
    total = tl.zeros((BLOCK_K, ROWS), dtype=tl.float32)
    squares = tl.zeros((BLOCK_K, ROWS), dtype=tl.float32)
    live = (row < rows)[None, :]
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        if EVEN_K:
            w = tl.load(w_ptr + cols[:, None] * k + inner[None, :], mask=(cols < n)[:, None], other=0.0)
            x = tl.load(x_ptr + row[None, :] * k + inner[:, None], mask=live, other=0.0)
            gamma = tl.load(gamma_ptr + inner)
        else:
            inside = inner < k
            w = tl.load(
                w_ptr + cols[:, None] * k + inner[None, :], mask=(cols < n)[:, None] & inside[None, :], other=0.0
            )
            x = tl.load(x_ptr + row[None, :] * k + inner[:, None], mask=live & inside[:, None], other=0.0)
            gamma = tl.load(gamma_ptr + inner, mask=inside, other=0.0)
        total += x
        squares += x * x
        acc = tl.dot(w, (x * gamma.to(tl.float32)[:, None]).to(w.dtype), acc)
    mean = tl.sum(total, axis=0) / k
    rstd = tl.rsqrt(tl.sum(squares, axis=0) / k - mean * mean + eps)
    w_gamma = tl.load(w_gamma_ptr + cols, mask=cols < n, other=0.0)
    offset = tl.load(offset_ptr + cols, mask=cols < n, other=0.0)
    return rstd[None, :] * (acc - mean[None, :] * w_gamma[:, None]) + offset[:, None]


@triton.jit
def _norm_linear_kernel(
    x_ptr,
    gamma_ptr,
    w_ptr,
    w_gamma_ptr,
    offset_ptr,
    y_ptr,
    rows,
    n,
    k,
    eps,
    GELU: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    ROWS: tl.constexpr,
):
    cols = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    y = normed_product(
        x_ptr, gamma_ptr, w_ptr, w_gamma_ptr, offset_ptr, rows, n, k, eps, cols, BLOCK_K, EVEN_K, ROWS, BLOCK_N
    )
    if GELU:
        y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
    row = tl.arange(0, ROWS)
    inside = (row < rows)[None, :] & (cols < n)[:, None]
    tl.store(y_ptr + row[None, :] * n + cols[:, None], y.to(y_ptr.dtype.element_ty), mask=inside)


def norm_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    gamma: torch.Tensor,
    w_gamma: torch.Tensor,
    offset: torch.Tensor,
    out: torch.Tensor,
    eps: float,
    gelu: bool = False,
    block_n: int = 16,
    block_k: int = 128,
    num_warps: int = 4,
    num_stages: int = 4,
) -> torch.Tensor:
    """Launch on x (rows <= 8, K) fp32; writes and returns `out` (rows, N) in the weights' type."""
    rows, k = x.shape
    n = weight.shape[0]
    assert rows <= ROWS and weight.shape[1] == k and out.shape == (rows, n)
    assert x.dtype == torch.float32 and x.is_contiguous() and weight.is_contiguous() and out.is_contiguous()
    _norm_linear_kernel[(triton.cdiv(n, block_n),)](
        x, gamma, weight, w_gamma, offset, out, rows, n, k, eps, gelu, block_n, block_k, k % block_k == 0, ROWS,
        num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    return out
