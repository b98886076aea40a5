"""The driver's side: hand chunks to workers as they ask, take their rows, and go on without those that are lost."""

import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from whisper_speedup.errors import UserError, say
from whisper_speedup.measure import memory
from whisper_speedup.measure.records import Energy
from whisper_speedup.run.messages import (
    Asks,
    Bug,
    Decoded,
    Ended,
    Failed,
    Item,
    Loaded,
    Lost,
    Rows,
    Said,
    error_of,
)  # fmt: skip
from whisper_speedup.run.rows import Measured, Result, WorkerFigures
from whisper_speedup.run.waiting import TRIES, Waiting

HOPELESS = 3  # a worker that was lost so often in a row without giving one row is not started again
PATIENCE_S = 120.0  # how long the first worker that is ready waits for the others
RESERVE_S = 2.0  # how long utterances are kept for others when a worker that has enough asks for more


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


@dataclass
class Figures:
    """One worker's part of the run."""

    worker: int
    loaded: Loaded
    utterances: int = 0
    audio_s: float = 0.0
    ended: Ended | None = None
    lost: str | None = None

    def add(self, rows: list[Decoded]) -> None:
        """Count what this worker decoded: a row without an output took no time, and counted would make it look fast."""
        self.utterances += sum(one.row.error is None for one in rows)
        self.audio_s += sum(one.audio_s for one in rows)

    def record(self) -> WorkerFigures:
        """For run.json."""
        ended = self.ended
        return WorkerFigures(
            worker=self.worker, device_name=self.loaded.device_name, utterances=self.utterances, audio_s=self.audio_s,
            busy_s=ended and ended.busy_s, load_s=self.loaded.load_s, warmup_s=self.loaded.warmup_s,
            stream=ended and ended.stream, memory=ended and ended.measured.memory, lost=self.lost,
        )  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """All utterances have been decoded: what was measured, and each worker's part."""

    measured: Measured
    workers: list[WorkerFigures]


Progressed = Loaded | Rows | Finished


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

    def run(self) -> Generator[Progressed]:
        """Loaded once, of the first worker; then Rows; Finished once.

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
                        self._welcome(number, said)
                        if begun is None:
                            begun = time.monotonic()
                            yield said
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
            yield finished(self.figures)
        finally:
            self.pool.close()

    def _start(self, number: int) -> None:
        self.starting.add(number)
        self.pool.start(number)

    def _welcome(self, number: int, loaded: Loaded) -> None:
        self.starting.discard(number)
        if loaded.source_sha256 != self.source:
            raise UserError(
                f"worker {number} runs another version of whisper_speedup: install this one on its machine, or none."
            )
        if self.figures:
            first, others = (dict(one.setup, elsewhere=one.elsewhere) for one in (self.figures[0].loaded, loaded))
            unlike = [key for key in first if first[key] != others[key]]
            if "environment" in unlike:
                ours, theirs = first["environment"], others["environment"]
                unlike += [f"{key} {theirs.get(key)}" for key in ours if ours[key] != theirs.get(key)][:3]
            if unlike:
                raise UserError(
                    f"worker {number} is unlike worker {self.figures[0].worker} ({', '.join(unlike)}): one run measures"
                    " one kind of machine, so let it have machines of one kind."
                )
        self.here[number] = Figures(number, loaded)
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
        rows = [Decoded(item.at, Result(id=item.row.id, error=sentence), 0.0) for item in self.items(given_up, False)]
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
            self.here.pop(number).ended = said
        elif isinstance(said, Failed | Bug):
            raise error_of(said, f"worker {number}")

    def _hand_out(self) -> None:
        """Answer those who ask. One that has nothing in flight gets its answer when there is something, or when all is
        done: until then it may be needed for what another loses. One that has enough waits for a while, which no engine
        can be held up by for long."""
        left: list[tuple[int, bool, float]] = []
        for number, wait, since in self.asking:
            loaded = self.here[number].loaded
            has_enough = not wait and self.waiting.enough(number, loaded.slots, len(self.here))
            if has_enough and time.monotonic() - since < RESERVE_S:
                left.append((number, wait, since))
                continue
            chunk = self.waiting.take(number)
            if chunk or not wait or self.waiting.finished:
                self.pool.give(number, self.items(chunk, not loaded.sees_audio))
            else:
                left.append((number, wait, since))
        self.asking = left


def finished(figures: list[Figures]) -> Finished:
    """One account for all: sums of energy, the largest memory, the first worker's conditions.

    At least one must have ended and said so.
    """
    told = [one.ended.measured for one in figures if one.ended]
    energies = [one.energy for one in told if one.energy is not None]
    sums = {key: sum(getattr(one, key) for one in energies) for key in Energy.model_fields}
    conditions = told[0].conditions
    if len(told) > 1 and conditions.during is not None:  # to one worker the others are others' work
        conditions = conditions.but(during=conditions.during.but(others_cores=None))
    measured = told[0]
    for one in told[1:]:
        measured = measured.but(**one.given())  # breakdown and step_floor, for which one worker is asked
    measured = measured.but(
        memory=memory.highest([one.memory for one in told]), conditions=conditions,
        energy=Energy(**sums) if len(energies) == len(told) else None,
    )  # fmt: skip
    return Finished(measured, [one.record() for one in figures])
