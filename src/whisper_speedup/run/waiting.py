"""Which utterances wait, which are with whom, and what becomes of those whose worker is lost."""

import threading
import time
from array import array
from collections import deque
from collections.abc import Iterable

TRIES = 3  # an utterance with which so many workers were lost is given up
LARGEST = 64  # utterances in a chunk


class Waiting:
    """The utterances `numbers`, handed out in that order, in chunks that shrink towards the end.

    A chunk is at most `largest` long and at most a quarter of a worker's share of what is left, so that all `workers`
    end together. Each utterance is with one worker at most. Eight bytes an utterance; several threads may call.
    """

    def __init__(self, numbers: Iterable[int], workers: int, largest: int = LARGEST) -> None:
        self.numbers = array("q", numbers)
        self.workers, self.largest = workers, largest
        self.next = 0
        self.given: dict[int, set[int]] = {}  # by worker
        self.again: deque[int] = deque()  # of lost workers
        self.tries: dict[int, int] = {}
        self.begun: float | None = None  # time.perf_counter() when the first chunk went out
        self.lock = threading.Lock()

    def take(self, worker: int) -> list[int]:
        """A chunk for this worker; nothing when none waits, or when it must first return one that is under suspicion.

        An utterance that was with two lost workers goes out alone, so that a third loss shows whose fault it is.
        """
        with self.lock:
            mine = self.given.setdefault(worker, set())
            if any(self._suspect(number) for number in mine):
                return []
            chunk = self._again(bool(mine)) or self._new()
            mine.update(chunk)
            if chunk and self.begun is None:
                self.begun = time.perf_counter()
            return chunk

    def enough(self, worker: int, slots: int, workers: int) -> bool:
        """Whether a worker that decodes `slots` utterances at once has enough to do, so that what waits is better left
        to the others: its slots are covered, and it holds half of a fair share of what is not done.
        """
        with self.lock:
            left = len(self.numbers) - self.next + len(self.again)
            given = sum(len(theirs) for theirs in self.given.values())
            mine = len(self.given.get(worker, ()))
            return left > 0 and mine >= max(slots + slots // 4, (left + given) / (2 * workers))

    def done(self, worker: int, number: int) -> bool:
        """Whether this worker had that utterance to do; from now on nobody has."""
        with self.lock:
            mine = self.given.get(worker, set())
            had = number in mine
            mine.discard(number)
            return had

    def lost(self, worker: int) -> list[int]:
        """Put back what the worker had; returns those that are given up, in order."""
        with self.lock:
            hopeless = []
            for number in sorted(self.given.pop(worker, set()), reverse=True):
                self.tries[number] = self.tries.get(number, 0) + 1
                if self.tries[number] >= TRIES:
                    hopeless.append(number)
                else:
                    self.again.appendleft(number)
            return hopeless[::-1]

    @property
    def finished(self) -> bool:
        """Whether nothing waits and nobody has anything."""
        with self.lock:
            return self.next == len(self.numbers) and not self.again and not any(self.given.values())

    def _suspect(self, number: int) -> bool:
        return self.tries.get(number, 0) >= TRIES - 1

    def _again(self, busy: bool) -> list[int]:
        if self.again and self._suspect(self.again[0]):
            return [] if busy else [self.again.popleft()]
        chunk: list[int] = []
        while self.again and not self._suspect(self.again[0]) and len(chunk) < self.largest:
            chunk.append(self.again.popleft())
        return chunk

    def _new(self) -> list[int]:
        left = len(self.numbers) - self.next
        size = min(self.largest, max(1, left // (4 * self.workers)))
        chunk = self.numbers[self.next : self.next + size]
        self.next += len(chunk)
        return chunk.tolist()
