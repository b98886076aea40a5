"""Cross-attention of the beams: all beams are query rows over one shared set of keys, split so that all SMs work.

    y = softmax(Q K^T / sqrt(head_dim)) V     Q (rows, d), K and V (n, d), head by head

A program takes one head and one share of the keys, keeps a running maximum and sum, and writes its partial result.
The last program of a head to finish merges that head's partial results in the order of the shares, so the result
does not depend on who was last. Keys past n are masked by their index in the whole sequence (Kernl masked by the
index within a block, and let 36 phantom keys into every softmax over 1500).

Bytes: n * d * 4 read; large-v2 7.7 MB, 2.6 us at 3.0 TB/s. Partial results: shares * rows * d * 4, in L2.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.norm_linear import pdl_option
from whisper_speedup.kernels.stream import ROWS, begin_launch, near_end, prefetch, wait_for_inputs


def cross_attention_reference(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int
) -> torch.Tensor:
    """query (rows, d), keys and values (n, d) to (rows, d), fp32."""
    rows, d = query.shape

    def split(states: torch.Tensor) -> torch.Tensor:
        return states.float().view(states.shape[0], heads, -1).transpose(0, 1)

    scores = split(query) @ split(keys).transpose(1, 2) * (d // heads) ** -0.5
    return (scores.softmax(-1) @ split(values)).transpose(0, 1).reshape(rows, d)


@triton.jit
def _cross_attention_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    y_ptr,
    partial_ptr,
    peak_ptr,
    norm_ptr,
    arrived_ptr,
    rows,
    n,
    d,
    scale,
    share,
    SHARES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    SHARE_BLOCK: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    begin_launch(PDL)
    head = tl.program_id(0)
    part = tl.program_id(1)
    row = tl.arange(0, ROWS)
    inner = tl.arange(0, BLOCK_D)
    inside = inner < HEAD_DIM
    column = head * HEAD_DIM + inner
    if PDL & 4:
        # Keys and values are from before this step: ask for this share while the query is still being made.
        times = tl.minimum(part * share + tl.arange(0, SHARE_BLOCK), n - 1)
        prefetch(keys_ptr + times * d + head * HEAD_DIM)
        prefetch(values_ptr + times * d + head * HEAD_DIM)
    wait_for_inputs(PDL)
    # Transposed throughout: keys are the tall side of the tensor cores' tiles, beams the narrow one.
    tile = (row < rows)[None, :] & inside[:, None]
    q = tl.load(q_ptr + row[None, :] * d + column[:, None], mask=tile, other=0.0)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    norm = tl.zeros((ROWS,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_D, ROWS), dtype=tl.float32)
    end = tl.minimum((part + 1) * share, n)
    for first in range(part * share, end, BLOCK_T):
        time = first + tl.arange(0, BLOCK_T)
        seen = time < end
        place = time[:, None] * d + column[None, :]
        both = seen[:, None] & inside[None, :]
        key = tl.load(keys_ptr + place, mask=both, other=0.0)
        value = tl.load(values_ptr + place, mask=both, other=0.0)
        score = tl.where(seen[:, None], tl.dot(key, q) * scale, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(score, axis=0))
        weight = tl.exp(score - new_peak[None, :])
        shrink = tl.exp(peak - new_peak)
        norm = norm * shrink + tl.sum(weight, axis=0)
        acc = tl.dot(tl.trans(value), weight.to(value.dtype), acc * shrink[None, :])
        peak = new_peak
    near_end(PDL)
    base = (head * SHARES + part) * ROWS + row
    tl.store(peak_ptr + base, peak)
    tl.store(norm_ptr + base, norm)
    tl.store(partial_ptr + base[None, :] * BLOCK_D + inner[:, None], acc)
    # All threads' stores must be out before the count says so, and no load may run ahead of it.
    tl.debug_barrier()
    before = tl.atomic_add(arrived_ptr + head, 1, sem="acq_rel")
    tl.debug_barrier()
    if before == SHARES - 1:
        peak = tl.full((ROWS,), float("-inf"), tl.float32)
        norm = tl.zeros((ROWS,), dtype=tl.float32)
        acc = tl.zeros((BLOCK_D, ROWS), dtype=tl.float32)
        for other in range(SHARES):
            base = (head * SHARES + other) * ROWS + row
            its_peak = tl.load(peak_ptr + base, cache_modifier=".cg")
            its_norm = tl.load(norm_ptr + base, cache_modifier=".cg")
            its_acc = tl.load(partial_ptr + base[None, :] * BLOCK_D + inner[:, None], cache_modifier=".cg")
            new_peak = tl.maximum(peak, its_peak)
            shrink = tl.exp(peak - new_peak)
            its_shrink = tl.exp(its_peak - new_peak)
            norm = norm * shrink + its_norm * its_shrink
            acc = acc * shrink[None, :] + its_acc * its_shrink[None, :]
            peak = new_peak
        tl.store(
            y_ptr + row[None, :] * d + column[:, None], (acc / norm[None, :]).to(y_ptr.dtype.element_ty), mask=tile
        )
        tl.store(arrived_ptr + head, 0)  # ready for the next launch


class CrossAttentionScratch:
    """Partial results of one launch, reused by every layer: launches on one stream follow one another."""

    def __init__(self, heads: int, head_dim: int, shares: int, device: torch.device) -> None:
        block_d = triton.next_power_of_2(head_dim)
        self.shares = shares
        self.partial = torch.empty(heads * shares * ROWS, block_d, device=device)
        self.peak = torch.empty(heads * shares * ROWS, device=device)
        self.norm = torch.empty(heads * shares * ROWS, device=device)
        self.arrived = torch.zeros(heads, dtype=torch.int32, device=device)


def cross_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    scratch: CrossAttentionScratch,
    block_t: int = 64,
    num_warps: int = 4,
    num_stages: int = 3,
    pdl: int = 0,
) -> torch.Tensor:
    """Launch for query (rows <= 8, d) over keys and values (n, d), rows contiguous. Returns `out` (rows, d)."""
    rows, d = query.shape
    n = keys.shape[0]
    head_dim = d // heads
    shares = scratch.shares
    # Whole blocks in every share, and at least one key in each, so that no share's maximum is -inf.
    share = triton.cdiv(triton.cdiv(n, shares), block_t) * block_t
    if (shares - 1) * share >= n:
        share = triton.cdiv(n, shares)
    assert (shares - 1) * share < n, "more shares than keys"
    assert rows <= ROWS and d % heads == 0 and keys.shape == values.shape == (n, d) and out.shape == (rows, d)
    assert query.is_contiguous() and keys.is_contiguous() and values.is_contiguous() and out.is_contiguous()
    _cross_attention_kernel[(heads, shares)](
        query, keys, values, out, scratch.partial, scratch.peak, scratch.norm, scratch.arrived, rows, n, d,
        head_dim**-0.5, share, shares, head_dim, triton.next_power_of_2(head_dim), block_t,
        triton.next_power_of_2(share), pdl, ROWS, num_warps=num_warps, num_stages=num_stages, **pdl_option(pdl),
    )  # fmt: skip
    return out
