"""Cross-attention of many utterances: each slot's beams over the keys and values of its own utterance, read once.

    y = softmax((Q + b) K^T / sqrt(head_dim)) V     Q (slots * beams, d), K and V (slots, n, d), slot by slot

A program takes one slot, one head and one share of the keys, in blocks of which the next is on its way while one is
worked on. The last program of a slot's head to finish merges the shares in their order (cross_attention.py), so the
result does not depend on who was last, nor on what other slots hold. A slot that is done is left out, and its keys are
not read.

Bytes: n * d * 4 a slot and layer: large-v2 7.7 MB, 2.6 us at 3.0 TB/s, and for 64 slots 164 us: most of a step's bytes.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.cross_attention import cross_attention_reference
from whisper_speedup.kernels.stream import ROWS


def batch_cross_attention_reference(
    query: torch.Tensor, offset: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int
) -> torch.Tensor:
    """query (slots * beams, d), offset (d,), keys and values (slots, n, d) to (slots * beams, d), fp32."""
    slots = keys.shape[0]
    shifted = (query.float() + offset.float()).view(slots, -1, query.shape[1])
    return torch.cat([cross_attention_reference(shifted[i], keys[i], values[i], heads) for i in range(slots)])


@triton.jit
def _batch_cross_attention_kernel(
    q_ptr,
    offset_ptr,
    keys_ptr,
    values_ptr,
    done_ptr,
    y_ptr,
    partial_ptr,
    peak_ptr,
    norm_ptr,
    arrived_ptr,
    n,
    d,
    slot_stride,
    scale,
    share,
    heads,
    BEAMS: tl.constexpr,
    SHARES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    STAGES: tl.constexpr,
    ROWS: tl.constexpr,
):
    head = tl.program_id(0)
    part = tl.program_id(1)
    slot = tl.program_id(2)
    if tl.load(done_ptr + slot) != 0:
        return
    row = tl.arange(0, ROWS)
    inner = tl.arange(0, BLOCK_D)
    inside = inner < HEAD_DIM
    column = head * HEAD_DIM + inner
    keys_ptr += slot.to(tl.int64) * slot_stride
    values_ptr += slot.to(tl.int64) * slot_stride
    # Transposed throughout: keys are the tall side of the tensor cores' tiles, beams the narrow one.
    tile = (row < BEAMS)[None, :] & inside[:, None]
    target = (slot * BEAMS + row)[None, :] * d + column[:, None]
    q = tl.load(q_ptr + target, mask=tile, other=0.0).to(tl.float32)
    q = (q + tl.load(offset_ptr + column, mask=inside, other=0.0).to(tl.float32)[:, None]).to(keys_ptr.dtype.element_ty)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    norm = tl.zeros((ROWS,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_D, ROWS), dtype=tl.float32)
    begin = part * share
    end = tl.minimum(begin + share, n)
    for block in tl.range(begin, end, BLOCK_T, num_stages=STAGES):
        time = block + tl.arange(0, BLOCK_T)
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
        acc = acc * shrink[None, :] + tl.dot(tl.trans(value), weight.to(value.dtype))
        peak = new_peak
    if SHARES == 1:
        tl.store(y_ptr + target, (acc / norm[None, :]).to(y_ptr.dtype.element_ty), mask=tile)
    else:
        group = slot * heads + head
        base = (group * SHARES + part) * ROWS + row
        tl.store(peak_ptr + base, peak)
        tl.store(norm_ptr + base, norm)
        tl.store(partial_ptr + base[None, :] * BLOCK_D + inner[:, None], acc)
        # All threads' stores must be out before the count says so, and no load may run ahead of it.
        tl.debug_barrier()
        before = tl.atomic_add(arrived_ptr + group, 1, sem="acq_rel")
        tl.debug_barrier()
        if before == SHARES - 1:
            peak = tl.full((ROWS,), float("-inf"), tl.float32)
            for index in tl.static_range(SHARES):
                one = (group * SHARES + index) * ROWS + row
                peak = tl.maximum(peak, tl.load(peak_ptr + one, cache_modifier=".cg"))
            norm = tl.zeros((ROWS,), dtype=tl.float32)
            acc = tl.zeros((BLOCK_D, ROWS), dtype=tl.float32)
            for index in tl.static_range(SHARES):
                one = (group * SHARES + index) * ROWS + row
                shrink = tl.exp(tl.load(peak_ptr + one, cache_modifier=".cg") - peak)
                norm += tl.load(norm_ptr + one, cache_modifier=".cg") * shrink
                its_acc = tl.load(partial_ptr + one[None, :] * BLOCK_D + inner[:, None], cache_modifier=".cg")
                acc += its_acc * shrink[None, :]
            tl.store(y_ptr + target, (acc / norm[None, :]).to(y_ptr.dtype.element_ty), mask=tile)
            tl.store(arrived_ptr + group, 0)  # ready for the next launch


class BatchCrossScratch:
    """Partial results of one launch over `slots` slots, reused by every layer."""

    def __init__(self, slots: int, heads: int, head_dim: int, shares: int, device: torch.device) -> None:
        count = slots * heads * shares * ROWS
        self.shares = shares
        self.partial = torch.empty(count, triton.next_power_of_2(head_dim), dtype=torch.float32, device=device)
        self.peak = torch.empty(count, dtype=torch.float32, device=device)
        self.norm = torch.empty(count, dtype=torch.float32, device=device)
        self.arrived = torch.zeros(slots * heads, dtype=torch.int32, device=device)


def batch_cross_attention(
    query: torch.Tensor,
    offset: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    done: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    beams: int,
    scratch: BatchCrossScratch,
    block_t: int = 64,
    num_warps: int = 4,
    stages: int = 3,
) -> torch.Tensor:
    """Launch for query (slots * beams, d) without its bias `offset` (d,), over the first slots of keys and values
    (slots or more, n, d), each slot's rows contiguous. A slot that is `done` keeps what stands in `out`, which is
    returned.
    """
    rows, d = query.shape
    slots, n = rows // beams, keys.shape[1]
    head_dim = d // heads
    share = triton.cdiv(n, scratch.shares)
    shares = triton.cdiv(n, share)  # fewer than asked for where there are few keys: none may be empty
    assert beams <= ROWS and rows % beams == 0 and d % heads == 0 and out.shape == (rows, d)
    assert slots <= keys.shape[0] and keys.shape == values.shape and keys.shape[2] == d
    assert keys.stride() == values.stride() and keys.stride()[1:] == (d, 1)
    assert query.is_contiguous() and out.is_contiguous() and scratch.arrived.numel() >= slots * heads
    _batch_cross_attention_kernel[(heads, shares, slots)](
        query, offset, keys, values, done, out, scratch.partial, scratch.peak, scratch.norm, scratch.arrived, n, d,
        keys.stride(0), head_dim**-0.5, share, heads, beams, shares, head_dim, triton.next_power_of_2(head_dim),
        block_t, stages, ROWS, num_warps=num_warps,
    )  # fmt: skip
    return out
