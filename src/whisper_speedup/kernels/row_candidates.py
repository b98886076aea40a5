"""Log-sum-exp and best candidates of logits that are in memory: what vocabulary.py leaves, for many rows.

    z = logits + offset;   per tile and row: max z, sum exp(z - max), and the KEEP best allowed (z, token)

With as many rows as many utterances have, the product before it is a matter of arithmetic and a library's; its logits
go through memory once, in fp32, so that no rounding makes two of them equal. Each slot is at a length of its own, which
decides what is suppressed. Candidates, rules and their order are vocabulary.py's.

Bytes: rows * V * 4 read; 320 rows of large-v2 66 MB, 22 us at 3.0 TB/s. Written: tiles * rows * (KEEP * 8 + 8).
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.kernels.vocabulary import LOWEST, pack_candidate


def row_candidates_reference(
    logits: torch.Tensor, offset: torch.Tensor, forbidden: torch.Tensor, keep: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Best `keep` allowed logits (rows, keep), their tokens, and the log-sum-exp (rows,) over the whole vocabulary;
    `forbidden` (rows, V)."""
    z = logits.float() + offset
    best, tokens = z.masked_fill(forbidden, float("-inf")).topk(keep, dim=-1)
    return best, tokens, z.logsumexp(dim=-1)


@triton.jit
def _row_candidates_kernel(
    logits_ptr,
    offset_ptr,
    rules_ptr,
    length_ptr,
    done_ptr,
    peak_ptr,
    norm_ptr,
    candidates_ptr,
    n,
    stride,
    tiles,
    prompt_length,
    min_length,
    BEAMS: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    tile = tl.program_id(0)
    row = tl.program_id(1)
    slot = row // BEAMS
    beam = row - slot * BEAMS
    if tl.load(done_ptr + slot) != 0:
        return
    length = tl.load(length_ptr + slot)
    cols = tile * BLOCK + tl.arange(0, BLOCK)
    inside = cols < n
    z = tl.load(logits_ptr + row.to(tl.int64) * stride + cols, mask=inside, other=0.0).to(tl.float32)
    z = tl.where(inside, z + tl.load(offset_ptr + cols, mask=inside, other=0.0), float("-inf"))
    rule = tl.load(rules_ptr + cols, mask=inside, other=1).to(tl.int32)
    peak = tl.max(z, axis=0)
    place = (slot * tiles + tile) * ROWS + beam
    tl.store(peak_ptr + place, peak)
    tl.store(norm_ptr + place, tl.sum(tl.exp(z - peak), axis=0))
    forbidden = (rule & 1) != 0
    forbidden = forbidden | (((rule & 2) != 0) & (length == prompt_length))
    forbidden = forbidden | (((rule & 4) != 0) & (length < min_length))
    packed = tl.where(forbidden, LOWEST, pack_candidate(z, cols))
    for rank in tl.static_range(KEEP):
        best = tl.max(packed, axis=0)
        tl.store(candidates_ptr + place.to(tl.int64) * KEEP + rank, best)
        packed = tl.where(packed == best, LOWEST, packed)


def row_candidates(
    logits: torch.Tensor,
    offset: torch.Tensor,
    rules: torch.Tensor,
    length: torch.Tensor,
    done: torch.Tensor,
    peak: torch.Tensor,
    norm: torch.Tensor,
    candidates: torch.Tensor,
    prompt_length: int,
    min_length: int,
    beams: int,
    block: int,
    num_warps: int = 4,
) -> None:
    """Launch for logits (slots * beams, V), rows any distance apart; `length` and `done` (slots or more,) int32.

    Writes peak and norm (slots, tiles, 8) fp32 and candidates (slots, tiles, 8, keep) int64, tiles = ceil(V / block);
    of a slot that is `done` nothing.
    """
    rows, n = logits.shape
    tiles, keep = triton.cdiv(n, block), candidates.shape[3]
    slots = rows // beams
    assert beams <= ROWS and rows % beams == 0 and logits.stride(1) == 1 and keep <= block
    assert peak.shape == norm.shape == (slots, tiles, ROWS) and candidates.shape == (slots, tiles, ROWS, keep)
    assert rules.shape == offset.shape == (n,) and rules.dtype == torch.int8 and candidates.is_contiguous()
    _row_candidates_kernel[(tiles, rows)](
        logits, offset, rules, length, done, peak, norm, candidates, n, logits.stride(0), tiles, prompt_length,
        min_length, beams, keep, block, ROWS, num_warps=num_warps,
    )  # fmt: skip
