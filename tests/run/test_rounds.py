"""The parent's side: turns in order, one engine at a time, who is left out, what is written, who is ended."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.test_benchmark import profile  # noqa: F401  (a fixture)
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.params.profile import Params, Profile, RoundsParams
from whisper_speedup.run import rounds as stage
from whisper_speedup.run.order import orders

PARAMS = Params(profile="p", engines=["fused", "kernl"])
ENGINES = ["huggingface", "fused", "kernl"]


class Workers:
    """Stand-ins for the processes: a log of what was asked, answers without an engine."""

    def __init__(self, dies: str | None = None, **room: int) -> None:
        """`room`: how many starts of an engine find room; all of who is not named."""
        self.log: list[tuple[str, str]] = []
        self.clips: list[str] = []
        self.room, self.dies = room, dies

    def start(self, engine: str) -> Any:
        workers = self

        class Worker:
            def ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
                workers.log.append((engine, request["do"]))
                if request["do"] == "load":
                    assert request["engine"] == engine
                    workers.clips = request["clips"]
                    if workers.log.count((engine, "load")) > workers.room.get(engine, 100):
                        return {"no_room": f"{engine} needs more."}
                    return {"loaded": {"settings": {}, "threads": 1}}
                if request["do"] == "end":
                    about = {"memory": {}, "conditions": Sampler(torch.device("cpu")).summary(), "waiting": {}}
                    return {"about": about}
                if engine == workers.dies:
                    raise EngineLost(f"the process of {engine} ended.")
                row = {"seconds": 1.0, "device_seconds": None, "tokens": 3, "error": None}
                return {"rows": [{"clip": clip, **row} for clip in workers.clips]}

            def close(self, patience_s: float = 10) -> None:
                workers.log.append((engine, f"close {patience_s:.0f}"))

        workers.log.append((engine, "start"))
        return Worker()


def run(content: Profile, workers: Workers, monkeypatch: pytest.MonkeyPatch, **rounds: Any) -> dict[str, Any]:
    asked = RoundsParams(**{"starts": 1, "count": 3, "clips": 2, "seed": 0, **rounds})
    measure = content.measure.model_copy(update={"rounds": asked})
    monkeypatch.setattr(stage, "start", workers.start)
    folder = stage.run(content.model_copy(update={"measure": measure}), "p", PARAMS)
    return {"about": read_json(folder / "rounds.json"), "rows": read_jsonl(folder / "rounds.jsonl")}


def test_each_engine_loads_once_and_then_they_take_turns(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers()
    found = run(profile, workers, monkeypatch)
    turns = [(engine, "turn") for order in orders(ENGINES, 3, 0) for engine in order]
    assert workers.log == [
        *((engine, what) for engine in ENGINES for what in ("start", "load")), *turns,
        *((engine, "end") for engine in ENGINES), *((engine, "close 10") for engine in ENGINES),
    ]  # fmt: skip
    rows = found["rows"]
    assert [tuple(row[key] for key in ("start", "round", "place", "engine", "clip")) for row in rows[:2]] == [
        (1, 1, 1, turns[0][0], found["about"]["clips"][0]), (1, 1, 1, turns[0][0], found["about"]["clips"][1]),
    ]  # fmt: skip
    assert [row["engine"] for row in rows[::2]] == [engine for engine, _ in turns]
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
    assert [workers.log.count((engine, "load")) for engine in ENGINES] == [3, 3, 3]
    closed = [place for place, (_, what) in enumerate(workers.log) if what.startswith("close")]
    started = [place for place, (_, what) in enumerate(workers.log) if what == "start"]
    assert max(closed[:3]) < min(started[3:6])  # one start at a time is in memory
    found = [(row["start"], row["round"], row["engine"]) for row in rows[::2]]
    assert found == [
        (number // 2 + 1, number + 1, engine) for number, order in enumerate(orders(ENGINES, 6, 0)) for engine in order
    ]


def test_who_does_not_fit_once_is_left_out_of_all_starts(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    workers = Workers(fused=1)
    found = run(profile, workers, monkeypatch, starts=3)
    assert found["about"]["left_out"] == {"fused": "fused needs more."}
    assert set(found["about"]["engines"]) == {row["engine"] for row in found["rows"]} == {"huggingface", "kernl"}
    assert workers.log.count(("fused", "start")) == 2


def test_who_does_not_fit_is_left_out(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    workers = Workers(fused=0)
    found = run(profile, workers, monkeypatch)
    assert found["about"]["left_out"] == {"fused": "fused needs more."}
    assert {row["engine"] for row in found["rows"]} == {"huggingface", "kernl"}
    assert workers.log.index(("fused", "close 10")) < workers.log.index(("kernl", "start"))


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
    with pytest.raises(EngineLost, match="the process of kernl ended"):
        run(profile, workers, monkeypatch)
    assert workers.log[-3:] == [(engine, "close 0") for engine in ENGINES]
    assert not Path("build/p/rounds").exists()


def test_null_leaves_them_out_and_starts_nothing(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "start", lambda engine: pytest.fail("nothing is to be started"))
    folder = stage.run(
        profile.model_copy(update={"measure": profile.measure.model_copy(update={"rounds": None})}), "p", PARAMS
    )
    assert read_json(folder / "rounds.json") == {"profile": "p", "rounds": None}
    assert read_jsonl(folder / "rounds.jsonl") == []
