"""Cross-attention of the beams: all beams are query rows over one shared set of keys, split so that all SMs work.

    y = softmax(Q K^T / sqrt(head_dim)) V     Q (rows, d), K and V (n, d), head by head

A program takes one head and one share of the keys, all of them in one block, and writes its partial result.
The last program of a head to finish merges that head's partial results in the order of the shares, so the result
does not depend on who was last. Keys past n are masked by their index in the whole sequence (Kernl masked by the
index within a block, and let 36 phantom keys into every softmax over 1500).

Bytes: n * d * 4 read; large-v2 7.7 MB, 2.6 us at 3.0 TB/s. Partial results: shares * rows * d * 4, in L2.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.stream import ROWS, let_next_start, pdl_option, wait_for_inputs


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
    SHARES_BLOCK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    head = tl.program_id(0)
    part = tl.program_id(1)
    row = tl.arange(0, ROWS)
    inner = tl.arange(0, BLOCK_D)
    inside = inner < HEAD_DIM
    column = head * HEAD_DIM + inner
    # Keys and values are from before this step: the whole share is asked for while the query is still being made.
    time = part * share + tl.arange(0, BLOCK_T)
    seen = time < tl.minimum((part + 1) * share, n)
    place = time[:, None] * d + column[None, :]
    both = seen[:, None] & inside[None, :]
    key = tl.load(keys_ptr + place, mask=both, other=0.0)
    value = tl.load(values_ptr + place, mask=both, other=0.0)
    wait_for_inputs(PDL)
    # Transposed throughout: keys are the tall side of the tensor cores' tiles, beams the narrow one.
    tile = (row < rows)[None, :] & inside[:, None]
    q = tl.load(q_ptr + row[None, :] * d + column[:, None], mask=tile, other=0.0)
    let_next_start(PDL)
    score = tl.where(seen[:, None], tl.dot(key, q) * scale, float("-inf"))
    peak = tl.max(score, axis=0)
    weight = tl.exp(score - peak[None, :])
    norm = tl.sum(weight, axis=0)
    acc = tl.dot(tl.trans(value), weight.to(value.dtype))
    base = (head * SHARES + part) * ROWS + row
    tl.store(peak_ptr + base, peak)
    tl.store(norm_ptr + base, norm)
    tl.store(partial_ptr + base[None, :] * BLOCK_D + inner[:, None], acc)
    # All threads' stores must be out before the count says so, and no load may run ahead of it.
    tl.debug_barrier()
    before = tl.atomic_add(arrived_ptr + head, 1, sem="acq_rel")
    tl.debug_barrier()
    if before == SHARES - 1:
        # Every share's maximum and sum at once, then the results, all of them on their way together.
        other = tl.arange(0, SHARES_BLOCK)
        places = (head * SHARES + other[:, None]) * ROWS + row[None, :]
        there = (other < SHARES)[:, None]
        peaks = tl.load(peak_ptr + places, mask=there, other=float("-inf"), cache_modifier=".cg")
        norms = tl.load(norm_ptr + places, mask=there, other=0.0, cache_modifier=".cg")
        peak = tl.max(peaks, axis=0)
        norm = tl.sum(norms * tl.exp(peaks - peak[None, :]), axis=0)
        acc = tl.zeros((BLOCK_D, ROWS), dtype=tl.float32)
        for share_index in tl.static_range(SHARES):
            one = (head * SHARES + share_index) * ROWS + row
            its_peak = tl.load(peak_ptr + one, cache_modifier=".cg")
            its_acc = tl.load(partial_ptr + one[None, :] * BLOCK_D + inner[:, None], cache_modifier=".cg")
            acc += its_acc * tl.exp(its_peak - peak)[None, :]
        tl.store(
            y_ptr + row[None, :] * d + column[:, None], (acc / norm[None, :]).to(y_ptr.dtype.element_ty), mask=tile
        )
        tl.store(arrived_ptr + head, 0)  # ready for the next launch


class CrossAttentionScratch:
    """Partial results of one launch, reused by every layer: launches on one stream follow one another."""

    def __init__(self, heads: int, head_dim: int, shares: int, device: torch.device) -> None:
        block_d = triton.next_power_of_2(head_dim)
        self.shares = shares
        self.partial = torch.empty(heads * shares * ROWS, block_d, dtype=torch.float32, device=device)
        self.peak = torch.empty(heads * shares * ROWS, dtype=torch.float32, device=device)
        self.norm = torch.empty(heads * shares * ROWS, dtype=torch.float32, device=device)
        self.arrived = torch.zeros(heads, dtype=torch.int32, device=device)


def cross_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    scratch: CrossAttentionScratch,
    num_warps: int = 8,
    pdl: bool = False,
) -> torch.Tensor:
    """Launch for query (rows <= 8, d) over keys and values (n, d), rows contiguous. Returns `out` (rows, d)."""
    rows, d = query.shape
    n = keys.shape[0]
    head_dim = d // heads
    share = triton.cdiv(n, scratch.shares)
    shares = triton.cdiv(n, share)  # fewer than asked for where there are few keys: none may be empty
    assert rows <= ROWS and d % heads == 0 and keys.shape == values.shape == (n, d) and out.shape == (rows, d)
    assert query.is_contiguous() and keys.is_contiguous() and values.is_contiguous() and out.is_contiguous()
    _cross_attention_kernel[(heads, shares)](
        query, keys, values, out, scratch.partial, scratch.peak, scratch.norm, scratch.arrived, rows, n, d,
        head_dim**-0.5, share, shares, triton.next_power_of_2(shares), head_dim, triton.next_power_of_2(head_dim),
        max(16, triton.next_power_of_2(share)), pdl, ROWS, num_warps=num_warps, **pdl_option(pdl),
    )  # fmt: skip
    return out
