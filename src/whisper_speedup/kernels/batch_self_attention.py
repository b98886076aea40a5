"""Self-attention of a step of many utterances: each slot at a position of its own, some of them at their prompt.

    y_r = softmax(q_r . K / sqrt(head_dim)) V     over row r's own ancestors and what this step adds to them

`qkv` (slots * beams, 3 d) comes from the product, its bias `offset` is added here. A slot's step stands at `position`:
keys and values before it are read through the ancestry table (self_attention.py); those of this step are the row's own,
or, while the slot is at its prompt and its rows are consecutive prompt tokens, those of the rows up to it. Each program
writes its row's key and value to the cache, and no program reads what another writes in the same launch.

Bytes: rows * position * d * 4 read, most of them once for all beams of a slot, whose ancestors are the same rows; with
64 slots of 5 beams of large-v2 at position 30 13 MB from memory and 49 MB from L2, 5 to 15 us.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.stream import ROWS


def batch_self_attention_reference(
    qkv: torch.Tensor,
    offset: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ancestry: torch.Tensor,
    position: torch.Tensor,
    prompt_length: int,
    heads: int,
) -> torch.Tensor:
    """qkv (slots * beams, 3 d), keys and values (slots, positions, beams, d), ancestry (slots, 16, positions), position
    (slots,): y (slots * beams, d) fp32. Writes this step's keys and values."""
    slots, _, beams, d = keys.shape
    whole = (qkv.float() + offset.float()).view(slots, beams, 3, d)
    result = torch.zeros(slots, beams, d, dtype=torch.float32, device=qkv.device)
    for slot in range(slots):
        start = int(position[slot])
        prompt = start < prompt_length
        query, key, value = whole[slot, :, 0], whole[slot, :, 1].to(keys.dtype), whole[slot, :, 2].to(keys.dtype)
        time = torch.arange(start, device=qkv.device)
        for beam in range(beams):
            fresh = range(beam + 1) if prompt else [beam]
            rows = ancestry[slot, beam, :start].long()
            seen = [
                torch.cat((cache[slot, time, rows], new[list(fresh)])).float().view(-1, heads, d // heads)
                for cache, new in ((keys, key), (values, value))
            ]
            scores = torch.einsum("hd,thd->ht", query[beam].view(heads, -1), seen[0]) * (d // heads) ** -0.5
            result[slot, beam] = torch.einsum("ht,thd->hd", scores.softmax(-1), seen[1]).reshape(d)
        for beam in range(beams):
            if prompt and start + beam < prompt_length:
                keys[slot, start + beam, 0], values[slot, start + beam, 0] = key[beam], value[beam]
            if not prompt:
                keys[slot, start, beam], values[slot, start, beam] = key[beam], value[beam]
    return result.view(slots * beams, d)


@triton.jit
def _batch_self_attention_kernel(
    qkv_ptr,
    offset_ptr,
    keys_ptr,
    values_ptr,
    ancestry_ptr,
    position_ptr,
    done_ptr,
    y_ptr,
    d,
    positions,
    prompt_length,
    scale,
    BEAMS: tl.constexpr,
    STRIDE: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    row = tl.program_id(1)
    slot = row // BEAMS
    beam = row - slot * BEAMS
    # GROUP heads side by side: longer rows from memory, fewer programs.
    inner = tl.arange(0, GROUP * BLOCK_D)
    head = tl.program_id(0) * GROUP + inner // BLOCK_D
    column = head * HEAD_DIM + inner % BLOCK_D
    inside = (inner % BLOCK_D < HEAD_DIM) & (column < d)
    # The first block's slots do not depend on the position: one load less in the chain.
    time = tl.arange(0, BLOCK_T)
    table = ancestry_ptr + (slot * STRIDE + beam) * positions
    source = tl.load(table + time, mask=time < positions, other=0)
    start = tl.load(position_ptr + slot)
    if tl.load(done_ptr + slot) != 0:
        return
    prompt = start < prompt_length
    q = tl.load(qkv_ptr + row * 3 * d + column, mask=inside, other=0.0).to(tl.float32)
    q = (q + tl.load(offset_ptr + column, mask=inside, other=0.0).to(tl.float32)) * scale
    # What this step adds: keys and values of the slot's rows, as they will stand in the cache.
    other = tl.arange(0, BLOCK_B)
    fresh = (other == beam) | (prompt & (other < beam))
    known = fresh[:, None] & inside[None, :]
    place = (slot * BEAMS + other)[:, None] * 3 * d + column[None, :]
    key_offset = tl.load(offset_ptr + d + column, mask=inside, other=0.0).to(tl.float32)
    value_offset = tl.load(offset_ptr + 2 * d + column, mask=inside, other=0.0).to(tl.float32)
    key = tl.load(qkv_ptr + place + d, mask=known, other=0.0).to(tl.float32) + key_offset[None, :]
    value = tl.load(qkv_ptr + place + 2 * d, mask=known, other=0.0).to(tl.float32) + value_offset[None, :]
    key, value = key.to(keys_ptr.dtype.element_ty), value.to(keys_ptr.dtype.element_ty)
    slot_base = slot.to(tl.int64) * positions * BEAMS * d
    at = start + tl.where(prompt, beam, 0)
    writes = (other == beam)[:, None] & inside[None, :]
    writes = writes & ((at < prompt_length) | (start >= prompt_length)) & (at < positions)
    target = slot_base + (at * BEAMS + tl.where(prompt, 0, beam)) * d + column[None, :] + other[:, None] * 0
    tl.store(keys_ptr + target, key, mask=writes)
    tl.store(values_ptr + target, value, mask=writes)

    products = tl.reshape(key.to(tl.float32) * q[None, :], (BLOCK_B, GROUP, BLOCK_D))
    score = tl.where(fresh[:, None], tl.sum(products, axis=2), float("-inf"))
    peak = tl.max(score, axis=0)
    weight = tl.exp(score - peak[None, :])
    norm = tl.sum(weight, axis=0)
    values = tl.reshape(value.to(tl.float32), (BLOCK_B, GROUP, BLOCK_D))
    acc = tl.sum(tl.where(fresh[:, None, None], values, 0.0) * weight[:, :, None], axis=0)
    for _ in range(0, start, BLOCK_T):
        seen = time < start
        cached = slot_base + (time * BEAMS + source)[:, None] * d + column[None, :]
        both = seen[:, None] & inside[None, :]
        old_key = tl.load(keys_ptr + cached, mask=both, other=0.0).to(tl.float32)
        old_value = tl.load(values_ptr + cached, mask=both, other=0.0).to(tl.float32)
        old_products = tl.reshape(old_key * q[None, :], (BLOCK_T, GROUP, BLOCK_D))
        old_score = tl.where(seen[:, None], tl.sum(old_products, axis=2), float("-inf"))
        new_peak = tl.maximum(peak, tl.max(old_score, axis=0))
        old_weight = tl.exp(old_score - new_peak[None, :])
        shrink = tl.exp(peak - new_peak)
        norm = norm * shrink + tl.sum(old_weight, axis=0)
        old_values = tl.reshape(old_value, (BLOCK_T, GROUP, BLOCK_D))
        acc = acc * shrink[:, None] + tl.sum(old_values * old_weight[:, :, None], axis=0)
        peak = new_peak
        time += BLOCK_T
        source = tl.load(table + time, mask=time < start, other=0)
    y = tl.reshape(acc / norm[:, None], (GROUP * BLOCK_D,))
    tl.store(y_ptr + row * d + column, y.to(y_ptr.dtype.element_ty), mask=inside)


def batch_self_attention(
    qkv: torch.Tensor,
    offset: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ancestry: torch.Tensor,
    position: torch.Tensor,
    done: torch.Tensor,
    out: torch.Tensor,
    prompt_length: int,
    heads: int,
    group: int = 4,
    block_t: int = 16,
    num_warps: int = 4,
) -> torch.Tensor:
    """Launch for qkv (slots * beams, 3 d), the first slots of keys and values (slots or more, positions, beams, d).

    A slot that is `done` keeps what stands in `out` (slots * beams, d), which is returned.
    """
    rows, d = out.shape
    _, positions, beams, _ = keys.shape
    assert (
        qkv.shape == (rows, 3 * d)
        and rows % beams == 0
        and beams <= ROWS
        and rows // beams <= keys.shape[0]
        and d % heads == 0
    )
    assert keys.is_contiguous() and values.is_contiguous() and qkv.is_contiguous() and ancestry.shape[2] == positions
    head_dim = d // heads
    _batch_self_attention_kernel[(triton.cdiv(heads, group), rows)](
        qkv, offset, keys, values, ancestry, position, done, out, d, positions, prompt_length, head_dim**-0.5, beams,
        ancestry.shape[1], group, head_dim, triton.next_power_of_2(head_dim), ROWS, block_t,
        num_warps=num_warps,
    )  # fmt: skip
    return out
