"""benchmarks/large_set.py in short: memory does not grow with the set, and a resumed run has every row once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.conftest import ROOT
from whisper_speedup.disk.files import read_json

COUNT = 1500


@pytest.mark.slow
def test_a_large_set_in_constant_memory(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/large_set.py"), f"--utterances={COUNT}", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    [path] = tmp_path.iterdir()
    rows = read_json(path)["rows"]
    assert [row["run"] for row in rows] == ["whole", "resumed at half", "driver alone"]
    assert [row["utterances"] for row in rows] == [COUNT, COUNT // 2, COUNT]
    assert [row["results"] for row in rows] == [COUNT] * 3
    # The rows alone would be 1 MB in memory as JSON, and five times that as Python's objects.
    assert all(row["growth_bytes"] < 16 * 2**20 for row in rows)
