"""What waits for a slot: pulled from the caller in a thread, made ready by others, the longest first.

At most `held` things wait or are being made ready, however many there are to come.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from types import TracebackType
from typing import Generic, Protocol, TypeVar

Source = TypeVar("Source")
Ready = TypeVar("Ready")


class Waiting(Protocol[Ready]):
    """Where a stream takes its utterances from."""

    def at_least(self, count: int) -> int:
        """How many there are, at most `count` counted. Waits until that is known."""

    def take(self, count: int, wait: bool) -> list[Ready]:
        """The next `count`, fewer where no more come. Without `wait`: none where they are not ready yet."""


class Given(Generic[Ready]):
    """A few that are ready, in their order."""

    def __init__(self, items: Iterable[Ready]) -> None:
        self.items = list(items)

    def at_least(self, count: int) -> int:
        """See Waiting."""
        return min(count, len(self.items))

    def take(self, count: int, wait: bool) -> list[Ready]:
        """See Waiting."""
        taken, self.items = self.items[:count], self.items[count:]
        return taken


class Prefetched(Generic[Source, Ready]):
    """`work` over what `source` yields, in `workers` threads; of what is ready the greatest by `size` goes first, then
    the earliest.

    What iterating or `work` raises, the next `take` raises. A context manager, whose end stops the threads: one that
    waits for `source` ends when that answers.
    """

    def __init__(
        self,
        source: Iterable[Source],
        work: Callable[[Source], Ready],
        size: Callable[[Source], float],
        held: int,
        workers: int,
    ) -> None:
        self.source, self.work, self.size, self.held = iter(source), work, size, held
        self.changed = threading.Condition()
        self.room = threading.Semaphore(held)
        self.ready: list[tuple[float, int, Ready]] = []
        self.pulled = self.pending = 0
        self.exhausted = self.closed = False
        self.error: BaseException | None = None
        self.pool = ThreadPoolExecutor(workers, "features")
        self.thread = threading.Thread(target=self._pull, name="utterances", daemon=True)

    def __enter__(self) -> "Prefetched[Source, Ready]":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closed = True
        self.room.release()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def at_least(self, count: int) -> int:
        """See Waiting; `count` at most `held`."""
        assert count <= self.held, "more than are ever held would never come"
        with self.changed:
            self.changed.wait_for(lambda: self.error or self.exhausted or self.pulled >= count)
            self._check()
            return min(count, self.pulled)

    def take(self, count: int, wait: bool) -> list[Ready]:
        """See Waiting; `count` at most `held`."""
        assert count <= self.held, "more than are ever held would never come"
        with self.changed:
            if wait:
                self.changed.wait_for(lambda: self.error or self._enough(count))
            self._check()
            if not self._enough(count):
                return []
            taken = [heappop(self.ready)[2] for _ in range(min(count, len(self.ready)))]
        for _ in taken:
            self.room.release()
        return taken

    def _enough(self, count: int) -> bool:
        return len(self.ready) >= count or (self.exhausted and self.pending == 0)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _pull(self) -> None:
        try:
            while True:
                self.room.acquire()
                if self.closed:
                    return
                try:
                    item = next(self.source)
                except StopIteration:
                    return
                with self.changed:
                    self.pulled += 1
                    self.pending += 1
                    order = self.pulled
                    self.changed.notify_all()
                if self.closed:
                    return
                self.pool.submit(self._make, order, item)
        except BaseException as error:  # the caller's own, raised where it is waited for
            self._fail(error)
        finally:
            with self.changed:
                self.exhausted = True
                self.changed.notify_all()

    def _make(self, order: int, item: Source) -> None:
        try:
            result = self.work(item)
        except BaseException as error:  # likewise
            self._fail(error)
            return
        with self.changed:
            heappush(self.ready, (-self.size(item), order, result))
            self.pending -= 1
            self.changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()
