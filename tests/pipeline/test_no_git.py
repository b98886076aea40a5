"""`make reproduce` in an unpacked archive: our Makefile and DVC for real, with a stage that only says that it ran."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
test "$1" != -m && exec {executable} "$@"
echo "$3" >>log
"""
DVC = """#!/bin/sh
exec {executable} -m dvc "$@"
"""
REMOTE = "[core]\n    remote = store\n['remote \"store\"']\n    url = /mnt/store\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What `make reproduce` reads of an archive, with an environment in which everything is installed."""
    for name in ("Makefile", ".dvc/config", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dvc.yaml").write_text("stages:\n  only:\n    cmd: python -m whisper_speedup stage\n")
    (tmp_path / ".dvc" / "config.local").write_text(REMOTE)
    (tmp_path / "tools").mkdir()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, code in (("python", PYTHON), ("dvc", DVC)):
        (programs / name).write_text(code.format(executable=sys.executable))
        (programs / name).chmod(0o755)
    for name in ("pyproject.toml", "tools/install_torch.py", ".venv/installed"):
        (tmp_path / name).touch()
    return tmp_path


def reproduce(archive: Path) -> subprocess.CompletedProcess[str]:
    ceiling = {"GIT_CEILING_DIRECTORIES": str(archive.parent), "DVC_NO_ANALYTICS": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MAKE"))}
    return subprocess.run(
        ["make", "reproduce"], cwd=archive, env=environment | ceiling, capture_output=True, text=True, check=False
    )


def test_without_a_repository_it_runs(archive: Path) -> None:
    done = reproduce(archive)
    assert done.returncode == 0, done.stderr
    assert (archive / "log").read_text().split() == ["profile", "estimate", "stage"]
    local = (archive / ".dvc" / "config.local").read_text()
    assert "no_scm = true" in local
    assert "url = /mnt/store" in local
