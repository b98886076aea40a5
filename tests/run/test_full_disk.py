"""A disk that becomes full under the rows of two workers: one sentence, whole rows, and the next run goes on."""

import shutil
from pathlib import Path

import pytest

from tests.faults.test_disk import disk, fill  # noqa: F401  (a fixture)
from tests.run.conftest import stages_before
from tests.run.fakes import maker
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.cli import main
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.params.sources import Local
from whisper_speedup.run import benchmark


def test_two_workers_and_a_full_disk(
    disk: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    stages_before(here)
    write_json(Path("build/p/model.json"), prepare(Local(source="local", path="weights")).content())
    shutil.move(here / "build", disk / "build")
    (here / "talkative").touch()
    monkeypatch.setattr(benchmark, "create", maker(here))
    monkeypatch.setattr("whisper_speedup.cli.BUILD", disk / "build")
    ballast = fill(disk, 6 * 4096)
    with pytest.raises(SystemExit) as stopped:
        main(["decode", "--engine", "streaming", "--profile", "p"])
    assert stopped.value.code == 2
    partial = disk / "build/p/partial/streaming.jsonl"
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the disk is full (")
    kept = [row for row in read_jsonl(partial) if "id" in row]
    assert f"{len(kept)} of 21 utterances are kept in {partial}, and running again" in error
    ballast.unlink()
    profile = (here / "profiles/p.yaml").read_text()
    (here / "profiles/p.yaml").write_text(profile.replace("workers: 2", "workers: 1"))
    main(["decode", "--engine", "streaming", "--profile", "p"])
    rows = read_jsonl(disk / "build/p/runs/streaming/results.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == 21
    assert all(row in rows for row in kept)
    resumed = read_json(disk / "build/p/runs/streaming/run.json")["resumed_from"]
    assert sum(session["rows"] for session in resumed or []) == len([row for row in kept if row["error"] is None])
