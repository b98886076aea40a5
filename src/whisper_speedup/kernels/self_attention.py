"""Self-attention of a step: each row reads its own ancestors' keys and values through the ancestry table.

    y_r = softmax(q_r . K[t, a(r, t)] / sqrt(head_dim)) V[t, a(r, t)],   t = 0 .. position(r)

`ancestry` (rows, positions) says in which slot row r's position t was written, so that beam reorder moves no keys.

Bytes: rows * positions * d * 4 read; at 50 positions and 5 beams of large-v2 1.3 MB, 0.4 us at 3.0 TB/s: what this
kernel costs is its launch and one chain of loads.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.stream import let_next_start, pdl_option, wait_for_inputs


def self_attention_reference(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ancestry: torch.Tensor,
    start: int,
    prompt: bool,
    heads: int,
) -> torch.Tensor:
    """query (rows, d), keys and values (positions, beams, d), ancestry (rows or more, positions); (rows, d) fp32."""
    rows, d = query.shape
    result = torch.empty(rows, d, dtype=torch.float32, device=query.device)
    for row in range(rows):
        length = start + row + 1 if prompt else start + 1
        slots = ancestry[row, :length].long()
        time = torch.arange(length, device=query.device)
        key = keys[time, slots].float().view(length, heads, -1)
        value = values[time, slots].float().view(length, heads, -1)
        one = query[row].float().view(heads, -1)
        scores = torch.einsum("hd,thd->ht", one, key) * (d // heads) ** -0.5
        result[row] = torch.einsum("ht,thd->hd", scores.softmax(-1), value).reshape(d)
    return result


@triton.jit
def _self_attention_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    ancestry_ptr,
    start_ptr,
    y_ptr,
    d,
    beams,
    positions,
    scale,
    PROMPT: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    PDL: tl.constexpr,
):
    head = tl.program_id(0)
    row = tl.program_id(1)
    length = tl.load(start_ptr) + 1
    if PROMPT:
        length += row
    inner = tl.arange(0, BLOCK_D)
    inside = inner < HEAD_DIM
    column = head * HEAD_DIM + inner
    # The first block's slots do not depend on the length: one load less in the chain.
    time = tl.arange(0, BLOCK_T)
    slot = tl.load(ancestry_ptr + row * positions + time, mask=time < positions, other=0)
    wait_for_inputs(PDL)
    q = tl.load(q_ptr + row * d + column, mask=inside, other=0.0).to(tl.float32) * scale
    peak = tl.full((), float("-inf"), tl.float32)
    norm = tl.full((), 0.0, tl.float32)
    acc = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for _ in range(0, length, BLOCK_T):
        seen = time < length
        place = (time * beams + slot).to(tl.int64)[:, None] * d + column[None, :]
        both = seen[:, None] & inside[None, :]
        key = tl.load(keys_ptr + place, mask=both, other=0.0).to(tl.float32)
        value = tl.load(values_ptr + place, mask=both, other=0.0).to(tl.float32)
        score = tl.where(seen, tl.sum(key * q[None, :], axis=1), float("-inf"))
        new_peak = tl.maximum(peak, tl.max(score, axis=0))
        weight = tl.exp(score - new_peak)
        shrink = tl.exp(peak - new_peak)
        norm = norm * shrink + tl.sum(weight, axis=0)
        acc = acc * shrink + tl.sum(value * weight[:, None], axis=0)
        peak = new_peak
        time += BLOCK_T
        slot = tl.load(ancestry_ptr + row * positions + time, mask=time < length, other=0)
    let_next_start(PDL)
    tl.store(y_ptr + row * d + column, (acc / norm).to(y_ptr.dtype.element_ty), mask=inside)


def self_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ancestry: torch.Tensor,
    start: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    prompt: bool = False,
    block_t: int = 64,
    num_warps: int = 4,
    pdl: bool = False,
) -> torch.Tensor:
    """Launch for (rows, d) queries; `start` int32 (1,) and `ancestry` int32 on the device. Returns `out` (rows, d)."""
    rows, d = query.shape
    positions, beams, _ = keys.shape
    assert d % heads == 0 and out.shape == (rows, d) and ancestry.shape[0] >= rows and ancestry.shape[1] == positions
    assert ancestry.dtype == torch.int32 and ancestry.is_contiguous() and keys.is_contiguous()
    head_dim = d // heads
    _self_attention_kernel[(heads, rows)](
        query, keys, values, ancestry, start, out, d, beams, positions, head_dim**-0.5, prompt, head_dim,
        triton.next_power_of_2(head_dim), block_t, pdl, num_warps=num_warps, **pdl_option(pdl),
    )  # fmt: skip
    return out
