"""One step of beam search on the device, in one program a search: merge, rank, end, ancestry, stop test.

From each tile's candidates (vocabulary.py) it takes the 2 * beams best continuations over all beams by

    score = (z - max) - log(sum exp(z - max)) + running score          (transformers' order of operations, fp32)

with ties broken by the lower beam, then the lower token; keeps the first `beams` that do not end as running beams;
merges those of the first `beams` ranks that do end into the finished pool by score / length^penalty; permutes the
ancestry; and sets `done` by transformers' stop test. fused/beam_search.py is the same search in torch, and the tests
compare the two. Sequences are not copied: `history` keeps each step's tokens and parents, and the host walks back
from the finished hypothesis. A launch after `done` changes nothing. NaN among the logits ends the search at once, with
NaN for the best score.

Many searches at once (BatchState) are as many programs, each at a length of its own. One of them may still
be at its prompt, which its rows take `beams` tokens at a time; the row `first_row` then holds the prompt's last token
and is the only source of the first choice. `limits` may end each at a length of its own.

Bytes a search: tiles * rows * (KEEP * 8 + 8) read, 0.2 MB for large-v2: latency, not bandwidth.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.beam_state import SLOTS, BatchState, BeamState
from whisper_speedup.kernels.stream import ROWS, let_next_start, pdl_option, wait_for_inputs
from whisper_speedup.kernels.vocabulary import LOWEST, candidate_index, candidate_score, pack_candidate

NEVER: tl.constexpr = tl.constexpr(-1.0e9)  # transformers' score for "not a candidate"
EARLY_FALSE, EARLY_TRUE, EARLY_NEVER = 0, 1, 2


@triton.jit
def _beam_update_kernel(
    peak_ptr,
    norm_ptr,
    candidates_ptr,
    length_ptr,
    position_ptr,
    done_ptr,
    host_done_ptr,
    tokens_ptr,
    scores_ptr,
    history_ptr,
    finished_scores_ptr,
    finished_lengths_ptr,
    finished_parents_ptr,
    finished_tokens_ptr,
    ancestry_ptr,
    limits_ptr,
    tiles,
    vocabulary,
    positions,
    prompt_length,
    max_total,
    eos,
    length_penalty,
    first_row,
    SOURCES: tl.constexpr,
    BEAMS: tl.constexpr,
    KEEP: tl.constexpr,
    EARLY: tl.constexpr,
    LIMITS: tl.constexpr,
    GREEDY: tl.constexpr,
    TILE_BLOCK: tl.constexpr,
    TIME_BLOCK: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    wait_for_inputs(PDL)
    let_next_start(PDL)
    search = tl.program_id(0)
    if tl.load(done_ptr + search) != 0:
        return
    position = tl.load(position_ptr + search)
    if position + BEAMS < prompt_length:  # more of the prompt is to come
        tl.store(position_ptr + search, position + BEAMS)
        return
    if LIMITS:
        max_total = tl.load(limits_ptr + search)
    peak_ptr += search * tiles * ROWS
    norm_ptr += search * tiles * ROWS
    candidates_ptr += search * tiles * ROWS * KEEP
    tokens_ptr += search * SLOTS
    scores_ptr += search * SLOTS
    history_ptr += search * 2 * positions * SLOTS
    finished_scores_ptr += search * SLOTS
    finished_lengths_ptr += search * SLOTS
    finished_parents_ptr += search * SLOTS
    finished_tokens_ptr += search * SLOTS
    ancestry_ptr += search * SLOTS * positions
    slot = tl.arange(0, SLOTS)
    length = tl.load(length_ptr + search)
    generated = length - prompt_length
    old_scores = tl.load(finished_scores_ptr + slot)
    old_lengths = tl.load(finished_lengths_ptr + slot)
    old_parents = tl.load(finished_parents_ptr + slot)
    old_tokens = tl.load(finished_tokens_ptr + slot)
    # Each row's log-sum-exp and running score make candidates of different rows comparable.
    row = tl.arange(0, ROWS)
    is_source = (row < SOURCES) & ((generated > 0) | (row == first_row))
    list_tile = tl.arange(0, TILE_BLOCK)[:, None]
    place = list_tile * ROWS + row[None, :]
    real = (list_tile < tiles) & is_source[None, :]
    head = tl.load(candidates_ptr + place * KEEP, mask=real, other=LOWEST)
    peaks = tl.load(peak_ptr + place, mask=real, other=float("-inf"))
    norms = tl.load(norm_ptr + place, mask=real, other=0.0)
    running = tl.load(scores_ptr + row, mask=is_source, other=0.0)
    peak = tl.where(is_source, tl.max(peaks, axis=0), 0.0)
    log_norm = tl.log(tl.where(is_source, tl.sum(norms * tl.exp(peaks - peak[None, :]), axis=0), 1.0))
    # A NaN among a row's logits is one in its sum, wherever the maximum went.
    broken = tl.sum((log_norm != log_norm).to(tl.int32), axis=0) > 0
    score = candidate_score(head)
    if not GREEDY:
        score = ((score - peak[None, :]) - log_norm[None, :]) + running[None, :]
    # A tile's candidates of one row are a sorted list. The KEEP best of all are in the KEEP lists whose heads are best:
    # before any other list's candidates come that many heads. Equal scores: rows in order, then tiles, then tokens.
    lists = pack_candidate(score, row[None, :] * tiles + list_tile)
    lists = tl.where(head == LOWEST, LOWEST, lists)
    chosen_lists = tl.full((SLOTS,), LOWEST, tl.int64)
    for rank in tl.static_range(KEEP):
        top = tl.max(tl.max(lists, axis=1), axis=0)
        chosen_lists = tl.where(slot == rank, top, chosen_lists)
        lists = tl.where(lists == top, LOWEST, lists)
    there = (slot < KEEP) & (chosen_lists != LOWEST)
    which = tl.where(there, candidate_index(chosen_lists), 0)
    source = which // tiles
    mine = source[:, None] == row[None, :]
    depth = tl.arange(0, SLOTS)
    place = ((which - source * tiles) * ROWS + source)[:, None] * KEEP + depth[None, :]
    packed = tl.load(candidates_ptr + place, mask=there[:, None] & (depth < KEEP)[None, :], other=LOWEST)
    empty = packed == LOWEST
    score = candidate_score(packed)
    # Sums of one number and zeros: nothing is rounded.
    peak = tl.sum(tl.where(mine, peak[None, :], 0.0), axis=1)
    log_norm = tl.sum(tl.where(mine, log_norm[None, :], 0.0), axis=1)
    running = tl.sum(tl.where(mine, running[None, :], 0.0), axis=1)
    if not GREEDY:
        score = ((score - peak[:, None]) - log_norm[:, None]) + running[:, None]
    packed = pack_candidate(score, source[:, None] * vocabulary + candidate_index(packed))
    packed = tl.where(empty, LOWEST, packed)
    best = tl.full((SLOTS,), LOWEST, tl.int64)
    for rank in tl.static_range(KEEP):
        top = tl.max(tl.max(packed, axis=1), axis=0)
        best = tl.where(slot == rank, top, best)
        packed = tl.where(packed == top, LOWEST, packed)
    valid = (slot < KEEP) & (best != LOWEST)
    score = tl.where(valid, candidate_score(best), float("-inf"))
    if GREEDY:  # transformers takes the largest logit; the score is for the record
        score = ((score - peak) - log_norm) + running
    flat = tl.where(valid, candidate_index(best), 0)
    parent = flat // vocabulary
    token = flat - parent * vocabulary
    at_limit = length + 1 >= max_total
    hit = (token == eos) | at_limit

    # The finished pool: ranks 0 to BEAMS - 1 that ended, by length-normalised score; older entries first among equals.
    # The division is torch's: by the scalar, rounded to fp32, as a product with its reciprocal on CUDA.
    span = (generated + 1).to(tl.float32)
    reciprocal = 1.0 / tl.exp2(length_penalty * tl.log2(span))
    if length_penalty == 1.0:
        reciprocal = 1.0 / span
    if length_penalty == 0.0:
        reciprocal = span / span
    in_pool = slot < BEAMS
    old_finished = in_pool & (old_lengths > 0)
    full = tl.sum(old_finished.to(tl.int32), axis=0) == BEAMS
    joins = hit & valid & in_pool
    if EARLY == 1:
        joins = joins & (not full)
    new_scores = tl.where(joins, score * reciprocal, NEVER)
    old_scores = tl.where(in_pool, old_scores, float("-inf"))
    new_scores = tl.where(in_pool, new_scores, float("-inf"))
    # ranks within the merged pool of 2 * SLOTS
    old_over_old = (old_scores[None, :] > old_scores[:, None]) | (
        (old_scores[None, :] == old_scores[:, None]) & (slot[None, :] < slot[:, None])
    )
    new_over_new = (new_scores[None, :] > new_scores[:, None]) | (
        (new_scores[None, :] == new_scores[:, None]) & (slot[None, :] < slot[:, None])
    )
    new_over_old = new_scores[None, :] > old_scores[:, None]
    old_over_new = old_scores[None, :] >= new_scores[:, None]
    old_rank = tl.sum(old_over_old.to(tl.int32), axis=1) + tl.sum(new_over_old.to(tl.int32), axis=1)
    new_rank = tl.sum(new_over_new.to(tl.int32), axis=1) + tl.sum(old_over_new.to(tl.int32), axis=1)
    tl.debug_barrier()
    keep_old = in_pool & (old_rank < BEAMS)
    tl.store(finished_scores_ptr + old_rank, old_scores, mask=keep_old)
    tl.store(finished_lengths_ptr + old_rank, old_lengths, mask=keep_old)
    tl.store(finished_parents_ptr + old_rank, old_parents, mask=keep_old)
    tl.store(finished_tokens_ptr + old_rank, old_tokens, mask=keep_old)
    keep_new = in_pool & (new_rank < BEAMS)
    tl.store(finished_scores_ptr + new_rank, new_scores, mask=keep_new)
    tl.store(finished_lengths_ptr + new_rank, tl.where(joins, generated + 1, 0), mask=keep_new)
    tl.store(finished_parents_ptr + new_rank, parent, mask=keep_new)
    tl.store(finished_tokens_ptr + new_rank, token, mask=keep_new)

    # Running beams: the first BEAMS that did not end, in rank order (at the limit the search is over anyway).
    live = valid & ((hit == 0) | at_limit)
    index = tl.sum(((slot[None, :] < slot[:, None]) & live[None, :]).to(tl.int32), axis=1)
    chosen = live & (index < BEAMS)
    tl.store(tokens_ptr + index, token, mask=chosen)
    tl.store(scores_ptr + index, score, mask=chosen)
    tl.store(history_ptr + generated * SLOTS + index, token, mask=chosen)
    tl.store(history_ptr + (positions + generated) * SLOTS + index, parent, mask=chosen)

    # Ancestry: beam i takes its parent's row, and stands in its own slot at the next position.
    time = tl.arange(0, TIME_BLOCK)
    known = (time < length)[None, :] & chosen[:, None]
    table = tl.load(ancestry_ptr + parent[:, None] * positions + time[None, :], mask=known, other=0)
    tl.debug_barrier()
    table = tl.where((time == length)[None, :], index[:, None], table)
    inside = (time < positions)[None, :] & (time <= length)[None, :] & chosen[:, None]
    tl.store(ancestry_ptr + index[:, None] * positions + time[None, :], table, mask=inside)

    # Stop test, with the lengths and pools after this step.
    lengths = tl.where(keep_new[None, :] & (new_rank[None, :] == slot[:, None]), joins[None, :].to(tl.int32), 0)
    kept = tl.where(keep_old[None, :] & (old_rank[None, :] == slot[:, None]), old_finished[None, :].to(tl.int32), 0)
    finished = (tl.sum(lengths, axis=1) + tl.sum(kept, axis=1)) > 0
    all_finished = tl.sum((finished & in_pool).to(tl.int32), axis=0) == BEAMS
    any_open = tl.sum((in_pool & (finished == 0)).to(tl.int32), axis=0) > 0
    merged_new = tl.where(keep_new & (new_rank == BEAMS - 1), new_scores, float("-inf"))
    merged_old = tl.where(keep_old & (old_rank == BEAMS - 1), old_scores, float("-inf"))
    worst_score = tl.maximum(tl.max(merged_new, axis=0), tl.max(merged_old, axis=0))
    # transformers compares with the pool's minimum for finished slots and with -1e9 for open ones.
    worst_score = tl.where(any_open, tl.minimum(worst_score, NEVER), worst_score)
    if EARLY == 2:
        if length_penalty > 0.0:
            far = (max_total - prompt_length).to(tl.float32)
            reciprocal = 1.0 / tl.exp2(length_penalty * tl.log2(far))
            if length_penalty == 1.0:
                reciprocal = 1.0 / far
    first = tl.max(tl.where(chosen & (index == 0), score, float("-inf")), axis=0)
    stop = at_limit | (first * reciprocal <= worst_score)
    if EARLY == 1:
        stop = stop | all_finished
    if GREEDY:
        stop = at_limit | all_finished
    stop = stop | (tl.sum(chosen.to(tl.int32), axis=0) == 0) | broken
    tl.store(finished_scores_ptr, float("nan"), mask=broken)  # later than the pool's own stores: a barrier lies between
    tl.store(position_ptr + search, length)
    tl.store(length_ptr + search, length + 1)
    tl.store(done_ptr + search, stop.to(tl.int32))
    tl.store(host_done_ptr + search, stop.to(tl.int32))


def beam_update(
    state: BeamState | BatchState,
    peak: torch.Tensor,
    norm: torch.Tensor,
    candidates: torch.Tensor,
    sources: int,
    beams: int,
    vocabulary: int,
    prompt_length: int,
    max_total: int,
    eos: int,
    length_penalty: float,
    early_stopping: bool | str,
    num_warps: int = 8,
    pdl: bool = False,
    first_row: int = 0,
    limits: torch.Tensor | None = None,
) -> None:
    """Launch after vocabulary(): `sources` rows of candidates (1 after the prompt, `beams` after a step).

    For a BatchState of n searches: peak and norm (n, tiles, 8), candidates (n, tiles, 8, keep), `sources` always
    `beams`, `first_row` the row of the prompt's last token, and `limits` (n,) int32 each one's own `max_total`, if any.

    beams 1 decodes greedily, as transformers does: the likeliest token, until the first end-of-text.
    """
    tiles, _, keep = candidates.shape[-3:]
    positions = state.ancestry.shape[-1]
    searches = candidates.shape[0] if candidates.ndim == 4 else 1
    assert 1 <= beams <= SLOTS // 2 and sources in (1, beams) and keep == 2 * beams <= SLOTS
    assert prompt_length < max_total <= positions and searches <= state.length.numel() and 0 <= first_row < sources
    early = {False: EARLY_FALSE, True: EARLY_TRUE, "never": EARLY_NEVER}[early_stopping]
    _beam_update_kernel[(searches,)](
        peak, norm, candidates, state.length, state.position, state.done, state.host_done, state.tokens, state.scores,
        state.history, state.finished_scores, state.finished_lengths, state.finished_parents, state.finished_tokens,
        state.ancestry, state.length if limits is None else limits, tiles, vocabulary, positions, prompt_length,
        max_total, eos, length_penalty, first_row, sources, beams, keep, early, limits is not None, beams == 1,
        triton.next_power_of_2(tiles), triton.next_power_of_2(positions), pdl, ROWS, SLOTS, num_warps=num_warps,
        **pdl_option(pdl),
    )  # fmt: skip


def read_hypothesis(state: BeamState, fetched: bool = False) -> tuple[list[int], float]:
    """The best finished hypothesis (end-of-text included if it ended so) and its score, by walking the history.

    `fetched`: its copy has been made and waited for.
    """
    # NumPy: torch takes a microsecond and more for each number.
    result = (state.host_result if fetched else state.result.cpu()).numpy()
    score = float(result[:SLOTS].view(np.float32)[0])
    length, parent, last = (int(result[SLOTS * index]) for index in (1, 2, 3))
    tokens, parents = result[4 * SLOTS :].reshape(2, -1, SLOTS)[:, : max(length, 1)].tolist()
    sequence = [last]
    for index in range(length - 2, -1, -1):
        sequence.append(tokens[index][parent])
        parent = parents[index][parent]
    return sequence[::-1], score
