"""A disk that is really full, and a folder that really cannot be written: the stage says so and goes on afterwards."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.checkpoints.folders import write_folder
from tests.run.test_benchmark import BUNDLED, Deaf, without_times
from whisper_speedup.audio import manifest
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints import bundled, prepare
from whisper_speedup.checkpoints.folder import make_once
from whisper_speedup.cli import main
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.params.profile import Profile
from whisper_speedup.params.sources import Bundled, Folder, Local
from whisper_speedup.run import benchmark


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, mounted at a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take what is free but for `leave` bytes, in whole pages."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    ballast.write_bytes(bytes(max(0, free - leave)))
    return ballast


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The data and model stages have run on three tones."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    for number in range(3):
        tone = 0.1 * np.sin(2 * np.pi * 300 * (1 + number) * np.arange(8000) / 16000)
        soundfile.write(f"mine/{number}.wav", tone, 16000)
    write_folder(Path("weights"))
    content = yaml.safe_load(BUNDLED.read_text())
    content["measure"] = {"device": "cpu", "threads": 1}
    content["data"] = {"source": "folder", "path": "mine"}
    content["model"] = {"source": "local", "path": "weights"}
    Path("profiles").mkdir()
    Path("profiles/p.yaml").write_text(yaml.safe_dump(content))
    return Profile.model_validate(content)


def stages_before(build: Path) -> None:
    manifest.prepare(Folder(source="folder", path="mine"), build / "p" / "data")
    write_json(build / "p" / "model.json", prepare.prepare(Local(source="local", path="weights")).content())


class Talkative(Deaf):
    """Each row is larger than a page, so that rows fill a disk one by one."""

    def generate(self, features: torch.Tensor) -> Any:
        from dataclasses import replace

        return replace(super().generate(features), tokens=[100] * 2000)


@pytest.mark.parametrize("leave", [0, 4096, 3 * 4096, 6 * 4096, 12 * 4096, 16 * 4096])
def test_decoding_onto_a_disk_that_becomes_full(
    profile: Profile, disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], leave: int
) -> None:
    monkeypatch.setattr(benchmark, "create", lambda name, measure: Talkative())
    monkeypatch.setattr("whisper_speedup.cli.BUILD", disk / "build")
    stages_before(disk / "build")
    ballast = fill(disk, leave)
    with pytest.raises(SystemExit) as stopped:
        main(["decode", "--engine", "counting", "--profile", "p"])
    error = capfd.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2
    assert error.startswith("error: the disk is full (")
    partial = disk / "build/p/partial/counting.jsonl"
    kept = [row for row in read_jsonl(partial) if "id" in row] if partial.exists() else []
    if "utterances are kept" in error:
        assert f"{len(kept)} of 3 utterances are kept in {partial}, and running again" in error
    assert not (disk / "build/p/runs/counting/run.json").exists()
    assert not list(disk.rglob("*.tmp"))
    ballast.unlink()
    main(["decode", "--engine", "counting", "--profile", "p"])
    rows = read_jsonl(disk / "build/p/runs/counting/results.jsonl")
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert all(row in rows for row in kept)
    resumed = read_json(disk / "build/p/runs/counting/run.json")["resumed_from"]
    assert sum(session["rows"] for session in resumed or []) == len(kept)


@pytest.mark.parametrize("leave", [0, 8192])
def test_preparing_data_on_a_full_disk(
    profile: Profile, disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], leave: int
) -> None:
    monkeypatch.setattr("whisper_speedup.cli.BUILD", disk / "build")
    ballast = fill(disk, leave)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "--profile", "p"])
    assert stopped.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: the disk is full")
    assert not [path for path in disk.rglob("*") if path.is_file() and path != ballast]
    ballast.unlink()
    main(["data", "--profile", "p"])
    assert len(read_manifest(disk / "build/p/data/manifest.jsonl")) == 3


def test_making_weights_on_a_full_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors raises no OSError; the sentence is the same, and nothing is left of the half-made folder."""

    def half(name: str, target: Path) -> None:
        from safetensors.torch import save_file

        write_folder(target)
        save_file({"big": torch.zeros(2**20)}, target / "model.safetensors")

    monkeypatch.setattr(bundled, "write", half)
    with pytest.raises(OSError, match="No space left") as full:
        prepare.prepare(Bundled(source="bundled", name="tiny.en"), disk / "models")
    assert full.value.errno == 28
    assert not [path for path in disk.rglob("*") if path.is_file()]
    make_once(disk / "models" / "x", {}, lambda target: write_folder(target) and None)


def test_a_folder_that_is_mounted_read_only(
    profile: Profile, disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "create", lambda name, measure: Deaf())
    monkeypatch.setattr("whisper_speedup.cli.BUILD", disk / "build")
    stages_before(disk / "build")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for stage in (["data"], ["model"], ["decode", "--engine", "counting"]):
        with pytest.raises(SystemExit) as stopped:
            main([*stage, "--profile", "p"])
        assert stopped.value.code == 2
        assert "cannot be opened or written (Read-only file system)" in capfd.readouterr().err.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    main(["decode", "--engine", "counting", "--profile", "p"])
    rows = read_jsonl(disk / "build/p/runs/counting/results.jsonl")
    assert len(without_times(rows)) == 3
