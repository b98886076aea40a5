"""Where an utterance's time goes: a clock around each part, apart from the timed run, the device synchronised."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.records import Breakdown

# What an engine's code says before a part: `with self.part("encoder"):`. Parts are encoder, prefill and steps.
Part = Callable[[str], AbstractContextManager[None]]


def unwatched(name: str) -> AbstractContextManager[None]:
    """The timed run's: no clock and no synchronising."""
    return nullcontext()


class Stopwatch:
    """Seconds and entries of each part, summed. Synchronising makes a part longer than it is in the timed run."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.entries: dict[str, int] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        self.begin()
        yield
        self.end(name)

    def begin(self) -> None:
        """Start a part; for hooks, which cannot wrap it."""
        synchronize(self.device)
        self.began = time.perf_counter()

    def end(self, name: str, entries: int = 1) -> None:
        """End the part that began last; `entries` 0 where it goes on from one that was counted."""
        synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self.began
        self.entries[name] = self.entries.get(name, 0) + entries

    def breakdown(self, whole_s: float, utterances: int) -> Breakdown:
        """For run.json, over `utterances` that took `whole_s` in all."""
        encoder, prefill, steps = (self.seconds.get(name, 0.0) for name in ("encoder", "prefill", "steps"))
        host = max(0.0, whole_s - (encoder + prefill + steps))
        found = Breakdown(encoder_s=encoder, prefill_s=prefill, steps_s=steps, host_s=host, utterances=utterances)
        count = self.entries.get("steps", 0)
        return found.but(step_s=steps / count) if count else found
