"""The driver's side: hand chunks to workers as they ask, take their rows, and go on without those that are lost."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from whisper_speedup.disk import storage
from whisper_speedup.errors import LeftOutError, UserError, say
from whisper_speedup.measure import device as devices
from whisper_speedup.measure import memory
from whisper_speedup.run.decoding import NO_OUTPUT, Decoded, Item
from whisper_speedup.run.waiting import TRIES, Waiting
from whisper_speedup.run.worker import Ended, Loaded, Message, Rows

HOPELESS = 3  # a worker that was lost so often in a row without giving one row is not started again
PATIENCE_S = 120.0  # how long the first worker that is ready waits for the others
RESERVE_S = 2.0  # how long utterances are kept for others when a worker that has enough asks for more
TOGETHER = ("settings", "prompt", "device", "dtype", "threads", "environment", "elsewhere")  # all workers agree in them


@dataclass(frozen=True)
class Asks:
    """The worker wants its next chunk: `wait` as in worker.More."""

    wait: bool


@dataclass(frozen=True)
class Failed:
    """The worker cannot go on, and no other could: `sentence` says why. `left_out`: nobody expects the engine here."""

    sentence: str
    left_out: bool = False


@dataclass(frozen=True)
class Bug:
    """An error of our own code: its traceback."""

    trace: str


@dataclass(frozen=True)
class Lost:
    """The worker is gone, and another may take its place."""

    why: str


Said = Message | Asks | Failed | Bug | Lost


class Pool(Protocol):
    """Workers in other processes, each by its number. One that was lost may be started again under its number."""

    def start(self, number: int) -> None:
        """Start a worker; it will say Loaded, or why not."""

    def give(self, number: int, chunk: list[Item]) -> None:
        """Answer a worker that asks, as worker.More has it. For a worker that is gone it does nothing."""

    def hear(self, limit_s: float) -> list[tuple[int, Said]]:
        """What workers have said since, in order; waits until one has, or `limit_s`."""

    def close(self) -> None:
        """End all workers at once."""


def end_of(error: BaseException) -> Said:
    """What a worker says of the error that ended it: a UserError holds for all workers, a failing GPU for this one."""
    if isinstance(error, UserError):
        return Failed(str(error), isinstance(error, LeftOutError))
    if isinstance(error, OSError) and (sentence := storage.failure(error)):
        return Failed(sentence)
    sentence = devices.failure(error)
    return Lost(sentence) if sentence else Bug("".join(traceback.format_exception(error)))


@dataclass
class Figures:
    """One worker's part of the run."""

    worker: int
    loaded: dict[str, Any]
    utterances: int = 0
    audio_s: float = 0.0
    ended: dict[str, Any] = field(default_factory=dict)
    lost: str | None = None

    def add(self, rows: list[Decoded]) -> None:
        """Count what this worker decoded: a row without an output took no time, and counted would make it look fast."""
        self.utterances += sum(row.row["error"] is None for row in rows)
        self.audio_s += sum(row.audio_s for row in rows)

    def about(self) -> dict[str, Any]:
        """For run.json: what was measured of it; null what a lost worker could not say."""
        return {
            "worker": self.worker,
            "device_name": self.loaded["device_name"],
            "utterances": self.utterances,
            "audio_s": self.audio_s,
            "busy_s": self.ended.get("busy_s"),
            "load_s": self.loaded["load_s"],
            "warmup_s": self.loaded["warmup_s"],
            "stream": self.ended.get("stream"),
            "memory": self.ended.get("memory"),
            "lost": self.lost,
        }


class Crew:
    """`size` workers of a pool over one set."""

    def __init__(self, pool: Pool, size: int, items: Callable[[list[int], bool], list[Item]], source: str) -> None:
        """`items`: utterances by number, with their files' contents where the flag says so. `source`: the hash of our
        own source, which the workers' must equal."""
        self.pool, self.size, self.items, self.source = pool, size, items, source
        self.waiting = Waiting([], size)  # set by the caller once the first worker has loaded
        self.figures: list[Figures] = []
        self.here: dict[int, Figures] = {}  # the workers that have loaded and are not gone
        self.asking: list[tuple[int, bool, float]] = []  # and whether they wait for an answer, and since when they ask
        self.starting: set[int] = set()
        self.barren: Counter[int] = Counter()  # losses since a worker's last row
        self.last_loss = ""

    def run(self) -> Generator[Message]:
        """Loaded once, of the first worker; then Rows; Ended once, with the largest and the sums of all workers.

        Raises UserError, LeftOutError among them, when no worker can go on. Closing it early ends all workers.
        """
        try:
            for number in range(self.size):
                self._start(number)
            begun: float | None = None
            while self.starting or self.here:
                rows: list[Decoded] = []  # of all that have said something: one write for them all
                for number, said in self.pool.hear(1.0):
                    if isinstance(said, Failed | Bug) and rows:
                        yield Rows(rows)
                    if isinstance(said, Loaded):
                        self._welcome(number, said.about)
                        if begun is None:
                            begun = time.monotonic()
                            yield Loaded(said.about)
                    elif isinstance(said, Rows):
                        rows += self._rows(number, said)
                    elif isinstance(said, Lost):
                        rows += self._lost(number, said.why)
                    else:
                        self._other(number, said)
                if rows:
                    yield Rows(rows)
                if not self.starting or (begun is not None and time.monotonic() - begun > PATIENCE_S):
                    self._hand_out()
                if begun is not None and self.waiting.finished and not self.here:
                    break  # a worker that is still starting comes too late
            told = any(one.ended for one in self.figures)  # else nobody knows its memory, energy and conditions
            if not self.waiting.finished or begun is None or not told:
                raise UserError(f"no worker is left, the last because {self.last_loss}")
            yield Ended(merged(self.figures))
        finally:
            self.pool.close()

    def _start(self, number: int) -> None:
        self.starting.add(number)
        self.pool.start(number)

    def _welcome(self, number: int, about: dict[str, Any]) -> None:
        self.starting.discard(number)
        if about["source_sha256"] != self.source:
            raise UserError(
                f"worker {number} runs another version of whisper_speedup: install this one on its machine, or none."
            )
        if self.figures:
            first = self.figures[0].loaded
            unlike = [key for key in TOGETHER if first[key] != about[key]]
            if "environment" in unlike:
                ours, theirs = first["environment"], about["environment"]
                unlike += [f"{key} {theirs.get(key)}" for key in ours if ours[key] != theirs.get(key)][:3]
            if unlike:
                raise UserError(
                    f"worker {number} is unlike worker {self.figures[0].worker} ({', '.join(unlike)}): one run measures"
                    " one kind of machine, so let it have machines of one kind."
                )
        self.here[number] = Figures(number, about)
        self.figures.append(self.here[number])

    def _rows(self, number: int, said: Rows) -> list[Decoded]:
        """The rows that are this worker's to give: a row is taken once."""
        rows = [row for row in said.rows if self.waiting.done(number, row.at)]
        if rows:
            self.barren[number] = 0
            self.here[number].add(rows)
        return rows

    def _lost(self, number: int, why: str) -> list[Decoded]:
        """Put back what it had, and start another in its place; the rows of utterances that are given up."""
        self.starting.discard(number)
        self.asking = [one for one in self.asking if one[0] != number]
        self.last_loss = why
        if (figures := self.here.pop(number, None)) is not None:
            figures.lost = why
        given_up = self.waiting.lost(number)
        sentence = (
            f"{TRIES} workers were lost while they had it, the last because {why.removesuffix('.')}: check the clip."
        )
        rows = [
            Decoded(item.at, {"id": item.row.id, **NO_OUTPUT, "error": sentence}, 0.0)
            for item in self.items(given_up, False)
        ]
        if figures is not None and self.waiting.finished:
            return rows
        self.barren[number] = 0 if given_up else self.barren[number] + 1  # the clip's fault, and not the worker's
        again = self.barren[number] < HOPELESS
        then = "started again" if again else "given up"
        say(f"worker {number} is lost and {then}: {why}")
        if again:
            self._start(number)
        return rows

    def _other(self, number: int, said: Said) -> None:
        if isinstance(said, Asks):
            self.asking.append((number, said.wait, time.monotonic()))
        elif isinstance(said, Ended):
            self.here.pop(number).ended = said.about
        elif isinstance(said, Failed):
            raise LeftOutError(said.sentence) if said.left_out else UserError(said.sentence)
        elif isinstance(said, Bug):
            raise RuntimeError(f"worker {number} ended with\n{said.trace}")

    def _hand_out(self) -> None:
        """Answer those who ask. One that has nothing in flight gets its answer when there is something, or when all is
        done: until then it may be needed for what another loses. One that has enough waits for a while, which no engine
        can be held up by for long."""
        left: list[tuple[int, bool, float]] = []
        for number, wait, since in self.asking:
            loaded = self.here[number].loaded
            has_enough = not wait and self.waiting.enough(number, loaded["slots"], len(self.here))
            if has_enough and time.monotonic() - since < RESERVE_S:
                left.append((number, wait, since))
                continue
            chunk = self.waiting.take(number)
            if chunk or not wait or self.waiting.finished:
                self.pool.give(number, self.items(chunk, not loaded["sees_audio"]))
            else:
                left.append((number, wait, since))
        self.asking = left


def merged(figures: list[Figures]) -> dict[str, Any]:
    """One worker's `Ended.about` for all: sums of energy, the largest memory, the first worker's conditions.

    At least one must have ended and said so.
    """
    told = [one.ended for one in figures if one.ended]
    about = {key: value for key, value in told[0].items() if key not in ("busy_s", "stream")}
    for one in told:  # one worker is asked for these
        about |= {key: value for key, value in one.items() if key in ("breakdown", "step_floor")}
    about["memory"] = memory.highest([one["memory"] for one in told])
    energies = [one["energy"] for one in told]
    about["energy"] = None
    if all(energies):
        about["energy"] = {key: sum(one[key] for one in energies) for key in energies[0]}
    if len(told) > 1:  # to one worker the others are others' work
        about["conditions"] = {**about["conditions"], "during": {**about["conditions"]["during"], "others_cores": None}}
    about["workers"] = [one.about() for one in figures]
    return about
