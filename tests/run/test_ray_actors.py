"""Two Ray actors over one set: the rows of one process, an actor killed, and a driver that begins again."""

import importlib.util
import os
from pathlib import Path

import pytest

from tests.run.conftest import TONES, alone
from tests.run.fakes import maker
from tests.run.test_benchmark import without_times
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import benchmark

ROOT = Path(__file__).parents[2]
there = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(autouse=True)
def found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake engines."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@there
def test_a_killed_actor_costs_nothing(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "create", maker(Path.cwd()))
    expected = read_jsonl(benchmark.decode(alone(profile), "p", "streaming") / "results.jsonl")
    Path("kill").touch()
    folder = benchmark.decode(profile, "p", "streaming", ray_address="local")
    rows, run = read_jsonl(folder / "results.jsonl"), read_json(folder / "run.json")
    assert without_times(rows) == without_times(expected)
    assert sum(one["utterances"] for one in run["workers"]) == TONES
    assert sum(one["lost"] is not None for one in run["workers"]) == 1
    assert "is lost and started again: its Ray actor is gone" in capfd.readouterr().err
