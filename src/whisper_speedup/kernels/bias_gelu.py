"""Bias and exact (erf) GELU behind a product of many rows, in place. cuBLAS fuses GELU's tanh form alone.

    x <- GELU(x + b)

Bytes: rows * n * 4; in the encoder of large-v2 30.7 MB an utterance and layer, 10 us at 3.0 TB/s.
"""

import torch
import triton
import triton.language as tl


def bias_gelu_reference(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x (rows, n), bias (n,): fp32."""
    return torch.nn.functional.gelu(x.float() + bias.float())


@triton.jit
def _bias_gelu_kernel(x_ptr, bias_ptr, rows, n, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr):
    # Several rows a program: as many bytes on their way, and the bias read once for them.
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)[:, None]
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (row < rows) & (cols < n)[None, :]
    x = tl.load(x_ptr + row * n + cols[None, :], mask=inside, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + cols, mask=cols < n, other=0.0).to(tl.float32)[None, :]
    x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(x_ptr + row * n + cols[None, :], x.to(x_ptr.dtype.element_ty), mask=inside)


def bias_gelu(
    x: torch.Tensor, bias: torch.Tensor, block_r: int = 4, block: int = 1024, num_warps: int = 4
) -> torch.Tensor:
    """Launch for x (rows, n), which is changed in place and returned."""
    rows, n = x.shape
    assert x.is_contiguous() and bias.shape == (n,)
    grid = (triton.cdiv(rows, block_r), triton.cdiv(n, block))
    _bias_gelu_kernel[grid](x, bias, rows, n, block_r, block, num_warps=num_warps)
    return x
