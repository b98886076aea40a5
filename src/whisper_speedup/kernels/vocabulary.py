"""The vocabulary projection: final layer norm, logits, log-sum-exp and the best candidates of each row in one pass.

    z = norm(x) E^T;   per tile of the vocabulary and row: max z, sum exp(z - max), and the KEEP best allowed (z, token)

The logits never reach memory. Each program takes one tile of the vocabulary and reports, for each row, the tile's
maximum and sum (over all tokens: suppression does not renormalise, as in transformers) and its KEEP best tokens among
those that may come next. A candidate is one int64: the logit's bits in an order that integers compare, above the
token's complement, so that one maximum finds the best score and, among equals, the lowest token.

Behind the end of a search there is nothing to do: given the search's `done`, a launch then ends at once.

`rules` (V,) int8 says what is suppressed: 1 always, 2 at the first generated token, 4 end-of-text below min_length.

Bytes: V * d * 2 read; large-v2 132.8 MB, 44 us at 3.0 TB/s; half of that in 8 bits. Written: tiles * rows *
(KEEP * 8 + 8).
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.eight_bits import check_weight
from whisper_speedup.kernels.norm_linear import norm_linear_reference, normed_product
from whisper_speedup.kernels.stream import ROWS, Stream, pdl_option, wait_for_inputs

SUPPRESSED, SUPPRESSED_AT_BEGIN, END_OF_TEXT = 1, 2, 4
LOWEST: tl.constexpr = tl.constexpr(-(2**63))


def vocabulary_reference(
    x: torch.Tensor,
    embedding: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    forbidden: torch.Tensor,
    keep: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Best `keep` allowed logits (rows, keep), their tokens, and the log-sum-exp (rows,) over the whole vocabulary."""
    bias = torch.zeros(embedding.shape[0], dtype=torch.float32, device=x.device)
    logits = norm_linear_reference(x, embedding, bias, gamma, beta, eps)
    best, tokens = logits.masked_fill(forbidden, float("-inf")).topk(keep, dim=-1)
    return best, tokens, logits.logsumexp(dim=-1)


@triton.jit
def pack_candidate(score, index):
    """An int64 that compares as (score descending, index ascending); index below 2^31, score not NaN."""
    bits = score.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - index).to(tl.int64)


@triton.jit
def candidate_score(packed):
    """The fp32 score in a packed candidate."""
    ordered = (packed >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def candidate_index(packed):
    """The index in a packed candidate."""
    return 0x7FFFFFFF - (packed & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _vocabulary_kernel(
    scaled_ptr,
    sums_ptr,
    w_ptr,
    scale_ptr,
    w_gamma_ptr,
    offset_ptr,
    rules_ptr,
    length_ptr,
    done_ptr,
    peak_ptr,
    norm_ptr,
    candidates_ptr,
    first,
    rows,
    parts,
    n,
    d,
    eps,
    prompt_length,
    min_length,
    KEEP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
    PDL: tl.constexpr,
    HAS_DONE: tl.constexpr,
    ROWS: tl.constexpr,
):
    # Written by the step before, which is further back than the kernel that dependent launch waits for.
    if HAS_DONE:
        if tl.load(done_ptr) != 0:
            wait_for_inputs(PDL)  # whoever comes next counts on that
            return
    tile = tl.program_id(0)
    cols = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = cols < n
    length = tl.load(length_ptr)
    rule = tl.load(rules_ptr + cols, mask=inside, other=1).to(tl.int32)
    z = normed_product(
        scaled_ptr, sums_ptr, w_ptr, scale_ptr, w_gamma_ptr, offset_ptr, first, rows, parts, n, d, eps, cols, BLOCK_N,
        BLOCK_K, EVEN_K, PARTS, PDL, ROWS,
    )  # fmt: skip
    z = tl.where(inside[:, None], z, float("-inf"))
    row = tl.arange(0, ROWS)
    live = row < rows
    peak = tl.max(z, axis=0)
    place = tile * ROWS + row
    tl.store(peak_ptr + place, peak, mask=live)
    tl.store(norm_ptr + place, tl.sum(tl.exp(z - peak[None, :]), axis=0), mask=live)

    forbidden = (rule & 1) != 0
    forbidden = forbidden | (((rule & 2) != 0) & (length == prompt_length))
    forbidden = forbidden | (((rule & 4) != 0) & (length < min_length))
    packed = pack_candidate(z, tl.broadcast_to(cols[:, None], (BLOCK_N, ROWS)))
    packed = tl.where(forbidden[:, None], LOWEST, packed)
    for rank in tl.static_range(KEEP):
        best = tl.max(packed, axis=0)
        tl.store(candidates_ptr + place * KEEP + rank, best, mask=live)
        packed = tl.where(packed == best[None, :], LOWEST, packed)


def vocabulary(
    stream: Stream,
    first: int,
    rows: int,
    embedding: torch.Tensor,
    w_gamma: torch.Tensor,
    offset: torch.Tensor,
    rules: torch.Tensor,
    length: torch.Tensor,
    peak: torch.Tensor,
    norm: torch.Tensor,
    candidates: torch.Tensor,
    eps: float,
    prompt_length: int,
    min_length: int,
    block_n: int = 128,
    block_k: int = 64,
    num_warps: int = 4,
    num_stages: int = 3,
    pdl: bool = False,
    done: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> None:
    """Launch on `rows` rows of the stream, from row `first`. `length` int32 (1,): tokens so far, prompt included.
    `done` int32 (1,). `scale` (V,) fp32: of an `embedding` in 8 bits.

    Writes peak and norm (tiles, 8) fp32 and candidates (tiles, 8, keep) int64, tiles = ceil(V / block_n); only the
    first `rows` rows of each tile are written.
    """
    n, d = embedding.shape
    tiles = triton.cdiv(n, block_n)
    keep = candidates.shape[2]
    assert first + rows <= ROWS and stream.width == d and rules.shape == (n,) and rules.dtype == torch.int8
    assert peak.shape == norm.shape == (tiles, ROWS) and candidates.shape == (tiles, ROWS, keep)
    assert embedding.is_contiguous() and keep <= block_n
    check_weight(embedding, scale, stream.scaled.dtype)
    _vocabulary_kernel[(tiles,)](
        stream.scaled, stream.sums, embedding, scale, w_gamma, offset, rules, length, length if done is None else done,
        peak, norm, candidates, first, rows, stream.parts, n, d, eps, prompt_length, min_length, keep, block_n, block_k,
        d % block_k == 0,
        triton.next_power_of_2(stream.parts), pdl, done is not None, ROWS,
        num_warps=num_warps, num_stages=num_stages, **pdl_option(pdl),
    )  # fmt: skip
