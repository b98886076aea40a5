"""The parent's side: turns in order, one engine at a time, who is left out, what is written, who is ended."""

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.fakes import make
from tests.run.test_benchmark import profile  # noqa: F401  (a fixture)
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.measure.records import Memory, Reading
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.params.profile import Params, Profile, RoundsParams
from whisper_speedup.run import rounds as stage
from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import Asks, Decoded, Ended, Failed, Item, Loaded, Lost, Rows, Said
from whisper_speedup.run.order import orders
from whisper_speedup.run.rows import Conditions, Measured, Result, RoundsRecord, Setup, Waited

PARAMS = Params(profile="p", engines=["fused", "kernl"])
ENGINES = ["huggingface", "fused", "kernl"]
SETUP = Setup(settings={}, prompt=[2], device="cpu", dtype="float32", threads=1, environment={})
LOADED = Loaded(SETUP, None, "fast", 1, False, "us", True, load_s=1.0, warmup_s=0.5, conditions=Reading())
CONDITIONS = Conditions(before=Reading(), after=Reading(), during=Sampler(torch.device("cpu")).summary())
ENDED = Ended(Measured(memory=Memory(), conditions=CONDITIONS), Waited(seconds=1, cpu_s=0), 1.0, None)
FULL = Failed("it needs more.", full=True)


class Workers:
    """Stand-ins for the processes: a log of what was asked, answers without an engine."""

    def __init__(self, refusal: Said = FULL, dies: str | None = None, **room: int) -> None:
        """`room`: how many starts of an engine find room, the others `refusal`; all of who is not named."""
        self.log: list[tuple[str, str]] = []
        self.refusal, self.room, self.dies = refusal, room, dies

    def pool(self, jobs: list[Job]) -> Any:
        workers, (job,) = self, jobs

        class Pool:
            said: deque[Said]

            def start(self, number: int) -> None:
                workers.log.append((job.engine, "start"))
                if workers.log.count((job.engine, "start")) > workers.room.get(job.engine, 100):
                    self.said = deque([workers.refusal])
                else:
                    self.said = deque([LOADED, Asks(True)])

            def give(self, number: int, chunk: list[Item]) -> None:
                workers.log.append((job.engine, "turn" if chunk else "end"))
                rows = [
                    Decoded(one.at, Result(id=one.row.id, tokens=[1, 2, 3], seconds=[1.0], error=None), 1.0)
                    for one in chunk
                ]
                done: list[Said] = [Rows(rows), Asks(True)] if rows else [ENDED]
                self.said += [Lost("it fell.")] if job.engine == workers.dies else done

            def hear(self, limit_s: float) -> list[tuple[int, Said]]:
                return [(0, self.said.popleft())]

            def close(self) -> None:
                workers.log.append((job.engine, "close"))

        return Pool()


def run(content: Profile, workers: Workers, monkeypatch: pytest.MonkeyPatch, **rounds: Any) -> dict[str, Any]:
    asked = RoundsParams(**{"starts": 1, "count": 3, "clips": 2, "seed": 0, **rounds})
    measure = content.measure.model_copy(update={"rounds": asked})
    monkeypatch.setattr(stage, "Processes", workers.pool)
    folder = stage.run(content.model_copy(update={"measure": measure}), "p", PARAMS)
    return {"about": read_json(folder / "rounds.json"), "rows": read_jsonl(folder / "rounds.jsonl")}


def test_each_engine_loads_once_and_then_they_take_turns(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers()
    found = run(profile, workers, monkeypatch)
    turns = [(engine, "turn") for order in orders(ENGINES, 3, 0) for engine in order]
    assert workers.log == [
        *((engine, "start") for engine in ENGINES), *turns, *((engine, "end") for engine in ENGINES),
        *((engine, "close") for engine in reversed(ENGINES)),
    ]  # fmt: skip
    rows = found["rows"]
    assert [tuple(row[key] for key in ("start", "round", "place", "engine", "clip")) for row in rows[:2]] == [
        (1, 1, 1, turns[0][0], found["about"]["clips"][0]), (1, 1, 1, turns[0][0], found["about"]["clips"][1]),
    ]  # fmt: skip
    assert [row["engine"] for row in rows[::2]] == [engine for engine, _ in turns]
    assert [rows[0][key] for key in ("seconds", "device_seconds", "tokens", "error")] == [1.0, None, 3, None]
    about = found["about"]
    assert about["rounds"] == {"starts": 1, "count": 3, "clips": 2, "seed": 0}
    assert set(about["engines"]) == set(ENGINES)
    assert about["left_out"] == {}
    assert len(about["data_sha256"]) == len(about["weights_sha256"]) == 64
    assert "b" not in about["clips"]  # the broken file


def test_every_start_loads_anew_and_the_rounds_go_on(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers()
    rows = run(profile, workers, monkeypatch, starts=3, count=2)["rows"]
    assert [workers.log.count((engine, "start")) for engine in ENGINES] == [3, 3, 3]
    closed = [place for place, (_, what) in enumerate(workers.log) if what == "close"]
    started = [place for place, (_, what) in enumerate(workers.log) if what == "start"]
    assert max(closed[:3]) < min(started[3:6])  # one start at a time is in memory
    found = [(row["start"], row["round"], row["engine"]) for row in rows[::2]]
    assert found == [
        (number // 2 + 1, number + 1, engine) for number, order in enumerate(orders(ENGINES, 6, 0)) for engine in order
    ]


@pytest.mark.parametrize("room", [0, 1])
@pytest.mark.parametrize(
    "refusal",
    [FULL, Lost("it needs more.", full=True), Failed("it needs more.", left_out=True)],
)
def test_who_does_not_fit_once_is_left_out_of_all_starts(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, refusal: Said, room: int  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers(refusal, fused=room)
    found = run(profile, workers, monkeypatch, starts=3)
    assert found["about"]["left_out"] == {"fused": "it needs more."}
    assert set(found["about"]["engines"]) == {row["engine"] for row in found["rows"]} == {"huggingface", "kernl"}
    assert workers.log.count(("fused", "start")) == room + 1
    last = len(workers.log) - 1 - workers.log[::-1].index(("fused", "close"))
    assert workers.log[last - 1 : last + 2] == [("fused", "start"), ("fused", "close"), ("kernl", "start")]


@pytest.mark.parametrize("no_room", [("fused", "kernl"), ("huggingface",)])
def test_too_few_that_fit_are_refused(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, no_room: tuple[str, ...]  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers(**dict.fromkeys(no_room, 0))
    with pytest.raises(UserError, match=r"set measure\.rounds to null"):
        run(profile, workers, monkeypatch)
    assert not Path("build/p/rounds").exists()
    assert "turn" not in {what for _, what in workers.log}


def test_an_engine_that_is_lost_ends_the_others_at_once(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers(dies="kernl")
    with pytest.raises(EngineLost, match=r"^kernl is lost: it fell\.$"):
        run(profile, workers, monkeypatch)
    assert workers.log[-3:] == [(engine, "close") for engine in reversed(ENGINES)]
    assert not Path("build/p/rounds").exists()


def test_null_leaves_them_out_and_starts_nothing(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "Processes", lambda jobs: pytest.fail("nothing is to be started"))
    folder = stage.run(
        profile.model_copy(update={"measure": profile.measure.model_copy(update={"rounds": None})}), "p", PARAMS
    )
    assert read_json(folder / "rounds.json") == {"profile": "p", "rounds": None}
    assert read_jsonl(folder / "rounds.jsonl") == []


def test_what_a_profile_leaves_to_defaults_is_written() -> None:
    written = RoundsRecord(profile="p", rounds=RoundsParams(starts=3)).content()
    assert written == {"profile": "p", "rounds": RoundsParams(starts=3).model_dump()}


def test_in_processes_that_show_how_far_they_warmed_up(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    """Genuine Kernl warms up for a quarter of an hour: what its process says of that must reach the screen."""
    monkeypatch.setattr(stage, "create", partial(make, folder=Path.cwd()))
    asked = RoundsParams(starts=1, count=2, clips=2, seed=0)
    content = profile.model_copy(update={"measure": profile.measure.model_copy(update={"rounds": asked})})
    folder = stage.run(content, "p", Params(profile="p", engines=["fused"]))
    rows = read_jsonl(folder / "rounds.jsonl")
    assert [row["error"] for row in rows] == [None] * 8
    assert min(row["seconds"] for row in rows) > 0
    about = read_json(folder / "rounds.json")["engines"]["fused"]
    assert about["conditions"]["samples"] == 4  # both turns' first and last moments
    assert about["waiting"]["seconds"] > 0
    assert "warming up: 1 of 1 length" in capfd.readouterr().err
