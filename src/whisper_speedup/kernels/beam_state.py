"""What a beam search, or many at once, keeps on the device; beam_update.py works on it, a program a search."""

import torch

SLOTS = 16  # beams, padded


class BeamState:
    """What a search keeps on the device; int32 but for the scores.

    `length` (1,): tokens so far, prompt included. `position` (1,): where the next step's tokens stand, length - 1.
    `done` (1,). `tokens` (16,): the next step's tokens. `scores` (16,) fp32: the running beams'. `history`
    (2, positions, 16): tokens and parents chosen at each generated index. Finished pool, best first, (16,) each:
    `finished_scores` fp32, `finished_lengths` (0 while empty), `finished_parents`, `finished_tokens`. `ancestry`
    (16, positions): see cache.py. `host_done` (1,): pinned host memory that the kernel writes, or a plain tensor.
    """

    def __init__(self, positions: int, device: torch.device) -> None:
        def ints(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int32, device=device)

        self.length, self.position, self.done = ints(1), ints(1), ints(1)
        self.tokens = ints(SLOTS)
        self.scores = torch.zeros(SLOTS, dtype=torch.float32, device=device)
        # What the host reads at the end lies together, for one copy into memory of its own.
        self.result = ints(4 * SLOTS + 2 * positions * SLOTS)
        scores, lengths, parents, tokens, history = self.result.split([SLOTS] * 4 + [2 * positions * SLOTS])
        self.finished_scores = scores.view(torch.float32)
        self.finished_lengths, self.finished_parents, self.finished_tokens = lengths, parents, tokens
        self.history = history.view(2, positions, SLOTS)
        self.ancestry = ints(SLOTS, positions)
        pinned = device.type == "cuda"
        self.host_done = torch.zeros(1, dtype=torch.int32, pin_memory=pinned)
        self.host_result = torch.zeros(self.result.shape, dtype=torch.int32, pin_memory=pinned)

    def fetch(self) -> None:
        """Start the copy that `read_hypothesis` reads; nothing waits for it here."""
        self.host_result.copy_(self.result, non_blocking=True)

    def reset(self, prompt_length: int) -> None:
        """Ready for a new utterance: the prompt is in slot 0 of every position."""
        self.length.fill_(prompt_length)
        self.position.fill_(prompt_length - 1)
        self.done.zero_()
        self.scores.fill_(-1.0e9)
        self.scores[:1].zero_()
        self.finished_scores.fill_(-1.0e9)
        self.finished_lengths.zero_()
        self.ancestry.zero_()


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
