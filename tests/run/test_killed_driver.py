"""The driver killed in the middle of a run over two workers: no row lost, none twice, and no worker left behind."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.run.conftest import ROOT, TONES, alone
from tests.run.fakes import maker
from tests.run.test_benchmark import without_times
from tests.run.test_ray_actors import there
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import benchmark


def start(engine: str, *address: str) -> subprocess.Popen[str]:
    """The stage in a process of its own, in the working directory."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.run.driver", engine, *address], env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [pytest.param((), marks=pytest.mark.slow), pytest.param(("local",), marks=[there, pytest.mark.slow])],
    ids=["processes", "ray"],
)
def test_a_killed_driver(profile: Profile, monkeypatch: pytest.MonkeyPatch, address: tuple[str, ...]) -> None:
    monkeypatch.setattr(benchmark, "create", maker(Path.cwd()))
    expected = read_jsonl(benchmark.decode(alone(profile), "p", "hearing") / "results.jsonl")
    for mine in Path.cwd().glob("pid.*"):
        mine.unlink()
    driver = start("hearing", *address)
    # Complete before a worker can look: it takes seconds to start.
    Path("kill_driver.tmp").write_text(str(driver.pid))
    Path("kill_driver.tmp").rename("kill_driver")
    stderr = driver.communicate()[1]
    assert driver.returncode == -signal.SIGKILL, stderr
    for mine in Path.cwd().glob("pid.*"):
        worker = int(mine.suffix[1:])
        with suppress(psutil.NoSuchProcess):
            psutil.Process(worker).wait(600)
    partial = Path("build/p/partial/hearing.jsonl")
    kept = {row["id"]: row for row in read_jsonl(partial) if row.get("error", 0) is None}
    assert len(kept) >= 2
    assert sum("id" in row for row in read_jsonl(partial)) <= TONES + 1
    rows = read_jsonl(benchmark.decode(alone(profile), "p", "hearing") / "results.jsonl")
    assert without_times(rows) == without_times(expected)
    assert {row["id"]: row for row in rows if row["id"] in kept} == kept  # with the seconds of the killed run
    resumed = read_json(Path("build/p/runs/hearing/run.json"))["resumed_from"]
    assert [session["rows"] for session in resumed] == [len(kept)]
