"""The worker's side of the protocol, in this process, around an engine that only counts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.test_benchmark import Counting, profile  # noqa: F401  (a fixture: three tones and a broken file)
from whisper_speedup.errors import EngineLost, NoRoomError, UserError
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import rounds_worker as worker

LOAD = {"do": "load", "engine": "counting", "model": "weights", "manifest": "build/p/data/manifest.jsonl"}


def ask(engine: Counting, requests: list[str], content: Profile, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The answers to `load` of clips c and a, and then to `requests`."""
    monkeypatch.setattr(worker, "create", lambda name, measure: engine)
    first = LOAD | {"profile": content.model_dump(mode="json"), "clips": ["c", "a"]}
    said: list[Any] = []
    worker.serve([json.dumps(line) for line in (first, *({"do": what} for what in requests))], said.append)
    json.dumps(said, allow_nan=False)
    return said


def test_load_warm_up_and_turns(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    engine = Counting()
    loaded, first, second, end = ask(engine, ["turn", "turn", "end"], profile, monkeypatch)
    assert engine.calls == ["load weights 5 cpu", *["warm_up"] * 5, *["generate"] * 4, "close"]
    assert set(loaded["loaded"]) == {
        "settings", "dtype", "prompt", "device", "threads", "environment", "load_s", "warmup_s",
    }  # fmt: skip
    for answer in (first, second):
        assert [row["clip"] for row in answer["rows"]] == ["c", "a"]
        for row in answer["rows"]:
            assert list(row) == ["clip", "seconds", "device_seconds", "tokens", "error"]
            assert row["seconds"] > 0
            assert (row["device_seconds"], row["tokens"], row["error"]) == (None, 1, None)
    assert set(end["about"]) == {"memory", "conditions", "waiting"}
    assert end["about"]["conditions"]["samples"] == 4  # both turns' first and last moments
    assert end["about"]["waiting"]["seconds"] >= 0
    assert torch.equal(engine.features[0], engine.features[2])


def test_a_clip_s_own_fault_is_in_its_row(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    _, answer = ask(Counting(fails_at=1), ["turn"], profile, monkeypatch)
    assert [row["error"] for row in answer["rows"]] == ["this utterance is one too many.", None]
    assert answer["rows"][0]["seconds"] is None


def test_an_engine_that_is_lost_ends_it(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    lost = Counting(fails_at=2, fails_with=EngineLost("its process ended."))
    assert ask(lost, ["turn", "turn"], profile, monkeypatch)[1:] == [{"error": "its process ended."}]


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (NoRoomError("it needs 6 GiB."), "no_room"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "no_room"),
        (UserError("it needs a newer GPU."), "error"),
    ],
)
def test_a_full_gpu_is_told_apart_from_what_cannot_run_at_all(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, error: Exception, key: str  # noqa: F811
) -> None:  # fmt: skip
    class Refused(Counting):
        def load(self, *arguments: Any) -> None:
            raise error

    (answer,) = ask(Refused(), ["turn"], profile, monkeypatch)
    assert list(answer) == [key]


def test_a_gpu_that_fills_up_later_is_an_error(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    full = Counting(fails_at=1, fails_with=torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    answer = ask(full, ["turn"], profile, monkeypatch)[1]
    assert "memory is full" in answer["error"]


def test_a_bug_is_no_answer(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with pytest.raises(ZeroDivisionError):
        ask(Counting(fails_at=1, fails_with=ZeroDivisionError()), ["turn"], profile, monkeypatch)


def test_libraries_that_print_do_not_get_between_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys; from whisper_speedup.run import rounds_worker as worker\n"
        "worker.serve = lambda requests, say: (print('noise', flush=True), say({'rows': []}))\n"
        "worker.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"rows": []}\n'
    assert "noise" in done.stderr
