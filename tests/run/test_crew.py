"""The driver's loop over workers that do as they are told, here, without a process."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch

from whisper_speedup.errors import LeftOutError, UserError
from whisper_speedup.measure.records import Energy, Memory, Reading, Spread
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.run.crew import HOPELESS, Crew, Finished
from whisper_speedup.run.messages import Asks, Bug, Decoded, Ended, Failed, Item, Loaded, Lost, Rows, Said, end_of
from whisper_speedup.run.rows import Conditions, Measured, Result, Setup, Waited
from whisper_speedup.run.waiting import Waiting

SETUP = Setup(settings={}, prompt=[2], device="cpu", dtype="float32", threads=1, environment={"cpu": "fast"})
LOADED = Loaded(
    SETUP, elsewhere=None, device_name="fast", slots=1, batched=False, source_sha256="us", sees_audio=True,
    load_s=1.0, warmup_s=0.5, conditions=Reading(),
)  # fmt: skip
DURING = Sampler(torch.device("cpu")).summary().but(others_cores=Spread(min=1, median=1, max=1))


def ended(number: int) -> Ended:
    measured = Measured(
        memory=Memory(max_reserved=number, process_peak=9),
        conditions=Conditions(before=Reading(), after=Reading(), during=DURING),
        energy=Energy(joules=2.0, seconds=1.0, audio_s=4.0),
    )
    return Ended(measured, Waited(seconds=0.0, cpu_s=0.0), busy_s=3.0, stream=None)


@dataclass
class Obedient:
    """A pool whose workers decode what they are given at once. `dies`: the utterances that end whoever has one, with
    how often; `starts`: what a worker says first, by number, in turn."""

    dies: dict[int, int] = field(default_factory=dict)
    starts: dict[int, list[Said]] = field(default_factory=dict)
    said: list[tuple[int, Said]] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    with_audio: list[bool] = field(default_factory=list)
    asked: dict[int, bool] = field(default_factory=dict)
    twice: bool = False
    falls_at_its_end: bool = False
    open: bool = True

    def start(self, number: int) -> None:
        self.started.append(number)
        self.asked[number] = False
        first = self.starts.get(number)
        said = first.pop(0) if first else LOADED
        self.said += [(number, said), *([(number, Asks(True))] if isinstance(said, Loaded) else [])]

    def give(self, number: int, chunk: list[Item]) -> None:
        if not chunk and self.asked.get(number):  # it had asked without waiting
            self.asked[number] = False
            self.said.append((number, Asks(True)))
            return
        if not chunk and self.falls_at_its_end:
            self.said.append((number, Lost("it fell.")))
            return
        if not chunk:
            self.said.append((number, ended(number)))
            return
        for item in chunk:
            if self.dies.get(item.at):
                self.dies[item.at] -= 1
                self.said.append((number, Lost("it fell.")))
                return
            row = Decoded(item.at, Result(id=str(item.at), error=None), 2.0)
            self.said += [(number, Rows([row]))] * (2 if self.twice else 1)
        self.asked[number] = True
        self.said.append((number, Asks(False)))

    def hear(self, limit_s: float) -> list[tuple[int, Said]]:
        heard, self.said = self.said, []
        return heard

    def close(self) -> None:
        self.open = False


def run(pool: Obedient, count: int = 40, size: int = 2) -> tuple[list[Decoded], Finished, Crew]:
    def items(numbers: list[int], with_audio: bool) -> list[Item]:
        pool.with_audio.append(with_audio)
        return [Item(number, SimpleNamespace(id=str(number))) for number in numbers]  # type: ignore[arg-type]

    crew = Crew(pool, size, items, "us")
    rows: list[Decoded] = []
    about: Finished | None = None
    try:
        for message in crew.run():
            if isinstance(message, Loaded):
                crew.waiting = Waiting(range(count), size, 8)
            elif isinstance(message, Rows):
                rows += message.rows
            else:
                about = message
    finally:
        assert not pool.open
    assert about is not None
    return rows, about, crew


def places(rows: list[Decoded]) -> list[int]:
    return sorted(row.at for row in rows)


def test_each_utterance_once_and_figures_of_each_worker() -> None:
    rows, about, _ = run(Obedient())
    assert places(rows) == list(range(40))
    assert [one.worker for one in about.workers] == [0, 1]
    assert sum(one.utterances for one in about.workers) == 40
    assert sum(one.audio_s for one in about.workers) == 80
    assert about.measured.memory == Memory(max_reserved=1, process_peak=9)
    assert about.measured.energy == Energy(joules=4.0, seconds=2.0, audio_s=8.0)
    assert about.measured.conditions.during == DURING.but(others_cores=None)


def test_a_row_that_comes_twice_is_taken_once() -> None:
    rows, _, _ = run(Obedient(twice=True))
    assert places(rows) == list(range(40))


def test_the_chunk_of_a_lost_worker_is_done_again() -> None:
    rows, about, _ = run(Obedient(dies={3: 1, 17: 2}))
    assert places(rows) == list(range(40))
    assert all(row.row.error is None for row in rows)
    assert [one.lost for one in about.workers].count("it fell.") == 3


def test_an_utterance_that_loses_every_worker_carries_that_as_its_error() -> None:
    pool = Obedient(dies={5: 99})
    rows, _, _ = run(pool)
    assert places(rows) == list(range(40))
    [bad] = [row for row in rows if row.row.error is not None]
    assert bad.at == 5
    assert bad.row.error == "3 workers were lost while they had it, the last because it fell: check the clip."
    assert pool.dies[5] == 96


def test_one_worker_alone_survives_it_too() -> None:
    rows, _, _ = run(Obedient(dies={0: 99}), size=1)
    assert places(rows) == list(range(40))


def test_a_worker_that_never_starts_is_given_up_and_the_other_does_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    pool = Obedient(starts={1: [Lost("no."), Lost("no."), Lost("no.")]})
    rows, about, _ = run(pool)
    assert places(rows) == list(range(40))
    assert pool.started.count(1) == HOPELESS
    assert "worker 1 is lost and given up: no." in capsys.readouterr().err
    assert [one.worker for one in about.workers] == [0]


def test_when_none_is_left_the_run_ends() -> None:
    falls: list[Said] = [Lost("no.")] * HOPELESS
    with pytest.raises(UserError, match=r"no worker is left, the last because no\."):
        run(Obedient(starts={0: [*falls], 1: [*falls]}))


def test_workers_that_all_fall_at_their_end_leave_no_run_without_its_measurements() -> None:
    pool = Obedient(falls_at_its_end=True)
    with pytest.raises(UserError, match=r"no worker is left, the last because it fell\."):
        run(pool)
    assert pool.started == [0, 1]


@pytest.mark.parametrize(
    ("first", "error", "sentence"),
    [
        (Failed("not here."), UserError, r"^not here\.$"),
        (Failed("without fingers.", left_out=True), LeftOutError, "without fingers"),
        (Bug("Traceback: oh"), RuntimeError, "worker 1 ended with\nTraceback: oh"),
        (replace(LOADED, setup=SETUP.but(dtype="half")), UserError, r"^worker 1 is unlike worker 0 \(dtype\)"),
        (replace(LOADED, setup=SETUP.but(environment={"cpu": "slow"})), UserError, r"\(environment, cpu slow\)"),
        (replace(LOADED, source_sha256="them"), UserError, "another version of whisper_speedup"),
    ],
)
def test_what_ends_a_run(first: Said, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        run(Obedient(starts={1: [first]}))


def test_audio_goes_along_where_it_is_not_seen() -> None:
    pool = Obedient(starts={0: [replace(LOADED, sees_audio=False)]})
    run(pool, size=1)
    assert set(pool.with_audio) == {True}


def test_nothing_to_do() -> None:
    rows, about, crew = run(Obedient(), count=0)
    assert rows == []
    assert crew.waiting.begun is None
    assert len(about.workers) == 2


def test_what_a_worker_says_of_its_end() -> None:
    assert end_of(LeftOutError("a.")) == Failed("a.", True)
    assert end_of(UserError("b.")) == Failed("b.")
    assert end_of(RuntimeError("CUDA error: gone")) == Lost(
        "the GPU stopped working (CUDA error: gone): run again, and if that fails too look for its errors with dmesg."
    )
    assert isinstance(end_of(OSError(28, "full", "x")), Failed)
    bug = end_of(ZeroDivisionError("c"))
    assert isinstance(bug, Bug)
    assert "ZeroDivisionError: c" in bug.why
