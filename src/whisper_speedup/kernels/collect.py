"""The results of searches that end, left where the host can read them.

A result is walked back through the history (beam_update.py) by the device, once, in the step in which its search ends:
the host never asks the device for it, which would wait for all steps that are started by then. `host_*` are pinned
memory, complete for a slot when the step whose number stands in `host_ended` is.

Bytes: 8 for each token of a search that ends, one dependent load after the other, 1 us each; nothing for the others.
"""

import triton
import triton.language as tl

from whisper_speedup.kernels.beam_state import SLOTS, BatchState


def collect_reference(state: BatchState, slot: int) -> tuple[list[int], float]:
    """The best finished hypothesis of a slot, end-of-text included if it ended so, and its score."""
    length, parent, last = (
        int(value[slot, 0]) for value in (state.finished_lengths, state.finished_parents, state.finished_tokens)
    )
    tokens, parents = state.history[slot].tolist()
    sequence = [last] if length else []
    for index in range(length - 2, -1, -1):
        sequence.append(tokens[index][parent])
        parent = parents[index][parent]
    return sequence[::-1], float(state.finished_scores[slot, 0])


@triton.jit
def _collect_kernel(
    clock_ptr,
    done_ptr,
    collected_ptr,
    history_ptr,
    scores_ptr,
    lengths_ptr,
    parents_ptr,
    tokens_ptr,
    host_tokens_ptr,
    host_lengths_ptr,
    host_scores_ptr,
    host_ended_ptr,
    positions,
    SLOTS: tl.constexpr,
):
    search = tl.program_id(0)
    if (tl.load(done_ptr + search) == 0) | (tl.load(collected_ptr + search) != 0):
        return
    length = tl.load(lengths_ptr + search * SLOTS)
    parent = tl.load(parents_ptr + search * SLOTS)
    last = tl.load(tokens_ptr + search * SLOTS)
    history_ptr += search * 2 * positions * SLOTS
    host_tokens_ptr += search * positions
    tl.store(host_tokens_ptr + length - 1, last, mask=length > 0)
    for back in range(2, length + 1):
        index = length - back
        tl.store(host_tokens_ptr + index, tl.load(history_ptr + index * SLOTS + parent))
        parent = tl.load(history_ptr + (positions + index) * SLOTS + parent)
    tl.store(host_lengths_ptr + search, length)
    tl.store(host_scores_ptr + search, tl.load(scores_ptr + search * SLOTS))
    tl.store(host_ended_ptr + search, tl.load(clock_ptr))
    tl.store(collected_ptr + search, 1)


def collect(state: BatchState, slots: int) -> None:
    """Launch after beam_update() for the first `slots` slots; counts the step."""
    assert 1 <= slots <= state.slots
    state.clock.add_(1)
    _collect_kernel[(slots,)](
        state.clock, state.done, state.collected, state.history, state.finished_scores, state.finished_lengths,
        state.finished_parents, state.finished_tokens, state.host_tokens, state.host_lengths, state.host_scores,
        state.host_ended, state.ancestry.shape[-1], SLOTS, num_warps=1,
    )  # fmt: skip
