"""Layer norm and the query/key/value product of a step, keys and values written straight into the cache.

    q, k, v = split(norm(x) W^T + b);   K[position(r), slot(r)] <- k_r;   V likewise

A step feeds one token a beam: row r stands at position `start` and writes slot r. A prompt feeds its tokens as rows:
row r stands at position `start + r` and writes slot 0, where every beam's ancestry points. Because keys and values
go to the cache here, the self-attention that follows may read all of them.

Bytes: 3 d * d * 2 of weights (large-v2: 9.8 MB, 3.3 us at 3.0 TB/s), half of it in 8 bits; the rest is small.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.eight_bits import check_weight
from whisper_speedup.kernels.norm_linear import norm_linear_reference, normed_product
from whisper_speedup.kernels.stream import ROWS, Stream, pdl_option


def norm_qkv_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: int,
    prompt: bool,
) -> torch.Tensor:
    """x (rows, d); writes keys and values (positions, beams, d) in place and returns queries (rows, d), fp32."""
    query, key, value = norm_linear_reference(x, weight, bias, gamma, beta, eps).chunk(3, dim=-1)
    for row in range(x.shape[0]):
        position, slot = (start + row, 0) if prompt else (start, row)
        keys[position, slot] = key[row].to(keys.dtype)
        values[position, slot] = value[row].to(values.dtype)
    return query


@triton.jit
def _norm_qkv_kernel(
    scaled_ptr,
    sums_ptr,
    w_ptr,
    scale_ptr,
    w_gamma_ptr,
    offset_ptr,
    q_ptr,
    keys_ptr,
    values_ptr,
    start_ptr,
    rows,
    parts,
    d,
    beams,
    eps,
    PROMPT: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    cols = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    start = tl.load(start_ptr)
    y = normed_product(
        scaled_ptr, sums_ptr, w_ptr, scale_ptr, w_gamma_ptr, offset_ptr, 0, rows, parts, 3 * d, d, eps, cols, BLOCK_N,
        BLOCK_K, EVEN_K, PARTS, PDL, ROWS,
    ).to(q_ptr.dtype.element_ty)  # fmt: skip
    row = tl.arange(0, ROWS)
    if PROMPT:
        slot = (start + row) * beams
    else:
        slot = start * beams + row
    third = cols // d
    inner = cols - third * d
    live = (row < rows)[None, :]
    tl.store(q_ptr + row[None, :] * d + inner[:, None], y, mask=live & (third == 0)[:, None])
    place = slot.to(tl.int64)[None, :] * d + inner[:, None]
    tl.store(keys_ptr + place, y, mask=live & (third == 1)[:, None])
    tl.store(values_ptr + place, y, mask=live & (third == 2)[:, None])


def norm_qkv(
    stream: Stream,
    weight: torch.Tensor,
    w_gamma: torch.Tensor,
    offset: torch.Tensor,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: torch.Tensor,
    eps: float,
    prompt: bool = False,
    block_n: int = 16,
    block_k: int = 128,
    num_warps: int = 4,
    num_stages: int = 4,
    pdl: bool = False,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Launch on the stream's first rows; `start` is an int32 tensor (1,) on the device. Returns `query` (rows, d).

    `scale` (3 d,) fp32: of a weight in 8 bits.
    """
    rows, d = query.shape
    positions, beams, _ = keys.shape
    assert rows <= ROWS and stream.width == d and weight.shape == (3 * d, d) and values.shape == keys.shape
    assert rows <= (positions if prompt else beams)
    assert weight.is_contiguous() and keys.is_contiguous() and query.is_contiguous()
    check_weight(weight, scale, stream.scaled.dtype)
    _norm_qkv_kernel[(triton.cdiv(3 * d, block_n),)](
        stream.scaled, stream.sums, weight, scale, w_gamma, offset, query, keys, values, start, rows, stream.parts, d,
        beams, eps, prompt, block_n, block_k, d % block_k == 0, triton.next_power_of_2(stream.parts), pdl,
        ROWS,
        num_warps=num_warps, num_stages=num_stages, **pdl_option(pdl),
    )  # fmt: skip
    return query
