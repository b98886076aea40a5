"""What is kept of many searches at once, and the results of those that end, left where the host can read them.

A result is walked back through the history (beam_update.py) by the device, once, in the step in which its search ends:
the host never asks the device for it, which would wait for all steps that are started by then. `host_*` are pinned
memory, complete for a slot when the step whose number stands in `host_ended` is.

Bytes: 8 for each token of a search that ends, one dependent load after the other, 1 us each; nothing for the others.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.beam_update import SLOTS


class BatchState:
    """BeamState's tensors for `slots` searches, each with a leading axis of slots; idle slots are done.

    `limits` (slots,): the longest sequence, prompt included. `clock` (1,): the number of the step that runs, from 1.
    `collected` (slots,): the result has been left. `host_ended` (slots,): by which step, 0 while there is none.
    `host_lengths` (slots,), `host_scores` (slots,) fp32, `host_tokens` (slots, positions): the result, end-of-text
    included if it ended so.
    """

    def __init__(self, slots: int, positions: int, device: torch.device) -> None:
        def ints(*shape: int) -> torch.Tensor:
            return torch.zeros(slots, *shape, dtype=torch.int32, device=device)

        self.slots = slots
        self.length, self.position, self.limits = ints(), ints(), ints()
        self.done, self.collected = ints() + 1, ints() + 1
        self.host_done = self.done  # what beam_update would tell the host comes from collect, with the result
        self.clock = torch.zeros(1, dtype=torch.int32, device=device)
        self.tokens = ints(SLOTS)
        self.scores = torch.zeros(slots, SLOTS, dtype=torch.float32, device=device)
        self.history = ints(2, positions, SLOTS)
        self.finished_scores = torch.zeros(slots, SLOTS, dtype=torch.float32, device=device)
        self.finished_lengths, self.finished_parents, self.finished_tokens = ints(SLOTS), ints(SLOTS), ints(SLOTS)
        self.ancestry = ints(SLOTS, positions)

        def host(dtype: torch.dtype, *shape: int) -> torch.Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, pin_memory=device.type == "cuda")

        self.host_ended, self.host_lengths = host(torch.int32), host(torch.int32)
        self.host_tokens, self.host_scores = host(torch.int32, positions), host(torch.float32)

    def start(self, slot: int, prompt_length: int, first_row: int, limit: int) -> None:
        """Ready for a new utterance in `slot`: the prompt is to be run. Starts work on the device and does not wait."""
        self.length[slot].fill_(prompt_length)
        self.limits[slot].fill_(limit)
        for counter in (self.position, self.collected, self.finished_lengths, self.ancestry, self.done):
            counter[slot].zero_()
        self.scores[slot].fill_(-1.0e9)
        self.scores[slot, first_row].zero_()
        self.finished_scores[slot].fill_(-1.0e9)
        self.host_ended[slot] = 0  # no step that is started already writes it: the slot was done

    def idle(self) -> None:
        """Every slot idle, and the next step is number 1. The caller waits for steps that are started already."""
        self.done.fill_(1)
        self.collected.fill_(1)
        self.clock.zero_()
        self.host_ended.zero_()


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
