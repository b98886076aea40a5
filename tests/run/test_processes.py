"""Two processes over one set: the rows of one, whoever is killed."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import TONES, alone
from tests.run.fakes import Hearing, maker
from tests.run.test_benchmark import without_times
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import benchmark
from whisper_speedup.run.job import Job
from whisper_speedup.run.local import Checked, Clips
from whisper_speedup.run.messages import Bug, Failed
from whisper_speedup.run.processes import serve, visible_gpus


def decode(
    profile: Profile, engine: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    monkeypatch.setattr(benchmark, "create", maker(Path.cwd()))
    folder = benchmark.decode(profile, "p", engine)
    assert not Path("build/p/partial").exists()
    return read_jsonl(folder / "results.jsonl"), read_json(folder / "run.json")


def test_a_killed_worker_costs_nothing(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    expected, inline = decode(alone(profile), "streaming", monkeypatch)
    Path("kill").touch()
    rows, run = decode(profile, "streaming", monkeypatch)
    assert without_times(rows) == without_times(expected)
    assert [row["id"] for row in rows if row["error"] is not None] == ["broken"]
    assert "is lost and started again: its process was ended by SIGKILL." in capfd.readouterr().err
    workers = run["workers"]
    assert len(workers) == 3
    assert sum(one["utterances"] for one in workers) == TONES  # and not the broken one: it took no time
    assert [one["lost"] for one in workers if one["lost"]] == ["its process was ended by SIGKILL."]
    assert all((one["busy_s"] is None) == (one["lost"] is not None) for one in workers)
    assert run["throughput"]["utterances"] == TONES
    assert run["throughput"]["workers"] == 2
    assert run["throughput"]["batched"]
    assert run["throughput"]["audio_s"] == pytest.approx(inline["throughput"]["audio_s"])
    assert run["conditions"]["during"]["others_cores"] is None


def serve_here(profile: Profile, pipe: Connection) -> None:
    """A worker's whole life, in this process, whose Ctrl-C stays what it is."""
    clips = Clips(Path("build/p/data/manifest.jsonl"), "cpu")
    before = signal.getsignal(signal.SIGINT)
    try:
        serve(Job(profile, "hearing", maker(Path.cwd()), Checked(Path("weights")), clips), pipe, None)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_workers_refusal_reaches_the_driver(profile: Profile) -> None:
    Path("refuses").touch()
    ours, theirs = multiprocessing.Pipe()
    serve_here(profile, theirs)
    assert ours.recv() == Failed("not here.")
    ours.close()
    Path("refuses").unlink()
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    serve_here(profile, theirs)  # ... and a driver that is gone ends its worker without a word


def test_an_engines_broken_pipe_is_told_and_not_taken_for_a_driver_that_is_gone(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object) -> None:
        raise EOFError("Ran out of input")  # as torch says of a file that is cut short

    monkeypatch.setattr(Hearing, "load", load)
    ours, theirs = multiprocessing.Pipe()
    serve_here(profile, theirs)
    said = ours.recv()
    assert isinstance(said, Bug)
    assert "EOFError: Ran out of input" in said.why


def test_the_gpus_that_are_left_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")
    assert visible_gpus(2) == ["3", "GPU-5f"]
