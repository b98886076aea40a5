"""Long work shows a bar in a terminal and plain lines elsewhere: how much is done, and how long the rest takes.

A log gets a line for each tenth of the way, at most one in EVERY_S seconds, and at least one in QUIET_S while the work
moves. The time left assumes that the rest goes as fast as what this process has done so far.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from whisper_speedup.errors import readable, say

EVERY_S = 5.0
QUIET_S = 60.0
T = TypeVar("T")


class Progress:
    """How far a piece of work is: a context manager. `what`: what is done, such as "decoding with fused".

    `total` and `done` count `unit`s, "B" for bytes; `done` of them were there before this began.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = readable(what), total, unit, done
        self.first, self.began = done, time.monotonic()
        self.said, self.said_at = done, self.began
        self.bar = None
        if _terminal():
            self.bar = tqdm(
                desc=self.what, total=total, initial=done, unit=unit, unit_scale=unit == "B", dynamic_ncols=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """`count` more are done; below 0 where work was lost."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self._worth_a_line(now := time.monotonic()):
            self.said, self.said_at = self.done, now
            say(self._line(now - self.began))

    def found(self, count: int) -> None:
        """`count` more turn out to have been there before."""
        self.done += count
        self.first += count
        if self.bar is not None:
            self.bar.initial += count
            self.bar.update(count)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def _worth_a_line(self, now: float) -> bool:
        if self.done == self.total:
            return self.said != self.done
        silent = now - self.said_at
        return silent >= QUIET_S or (silent >= EVERY_S and 10 * (self.done - self.said) >= self.total)

    def _line(self, seconds: float) -> str:
        if self.unit == "B":
            line = f"{self.what}: {size(self.done)} of {size(self.total)}"
        else:
            line = f"{self.what}: {self.done} of {self.total} {self.unit}s"
        fresh = self.done - self.first
        if self.done == self.total or fresh <= 0:
            return f"{line}, {duration(seconds)}"
        left = seconds / fresh * (self.total - self.done)
        return f"{line}, {duration(seconds)} so far, about {duration(left)} left"


def _terminal() -> bool:
    """Whether a person watches. A terminal of no width, as CI and containers have, would show an empty bar."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # one that has no size to ask for
        return True


def track(items: Sequence[T], what: str, unit: str, done: int = 0) -> Iterator[T]:
    """The items one by one, shown as Progress; `done` others were dealt with before."""
    with Progress(what, done + len(items), unit, done) as progress:
        for item in items:
            yield item
            progress.advance()


def duration(seconds: float) -> str:
    """Seconds for a line: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes for a line, in decimal units as downloads and disks are sold: 820 B, 45.1 MB, 6.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
