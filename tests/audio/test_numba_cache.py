"""Where Numba keeps what it compiles of librosa, on machines where it may write nowhere that it looks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_speedup.audio import numba_cache
from whisper_speedup.audio.numba_cache import ensure_numba_cache

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "x")  # so that it is put back as it was
    monkeypatch.delenv("NUMBA_CACHE_DIR")


def test_nothing_is_set_where_numba_finds_a_place() -> None:
    ensure_numba_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_what_the_user_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cache, "_writable", lambda folder: folder == Path("/somewhere"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    ensure_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "/somewhere"


def test_what_the_user_says_and_nobody_may_write_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba passes over such a folder and then finds no other."""
    monkeypatch.setattr(numba_cache, "_writable", lambda folder: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    ensure_numba_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_dir()


def test_a_user_without_a_home_gets_a_place_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started with --user: no HOME, and no entry in the list of users."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setenv("XDG_CACHE_HOME", "x")  # so that it is put back as it was
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    ensure_numba_cache()
    folder = Path(os.environ["XDG_CACHE_HOME"])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0


def test_where_it_may_write_nowhere_it_gets_a_folder_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cache, "_writable", lambda folder: False)
    ensure_numba_cache()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0


def test_nothing_else_imports_librosa() -> None:
    users = [path for path in SOURCE.rglob("*.py") if re.search(r"(?m)^\s*(import|from) librosa\b", path.read_text())]
    assert [path.name for path in users] == ["numba_cache.py"]


def for_everybody(path: Path) -> bool:
    return all(one.stat().st_mode & 0o005 == 0o005 for one in (path, *path.parents))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.skipif(
    not all(map(for_everybody, (Path(sys.prefix), Path(sys.base_prefix), SOURCE))),
    reason="nobody may not read this interpreter or this checkout",
)
def test_nobody_with_no_home_resamples_and_draws_a_recording() -> None:
    """In a process of its own, whose user may read everything here and write nothing."""
    code = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "import numpy; from whisper_speedup.audio.decode import resample;"
        "from whisper_speedup.compare.log_mel import picture;"
        "samples = resample(numpy.zeros(800, numpy.float32), 8000, 16000);"
        "print(len(samples), picture(samples)[1:4].decode())"
    )
    environment = {"PYTHONPATH": str(SOURCE), "HOME": "/nonexistent", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/", check=False
    )
    assert done.stdout.strip() == "1600 PNG", done.stderr
