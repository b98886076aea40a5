"""benchmarks/kill_runs.py in short: the decode stage killed at a few random moments and file operations."""

import os
import subprocess
import sys
from pathlib import Path

from whisper_speedup.disk.files import read_json

ROOT = Path(__file__).parents[2]


def test_a_killed_stage_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_runs.py"), "--engines", "fused", "--kills", "2",
               "--points", "4", "--out", str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    [path] = tmp_path.iterdir()
    rows = read_json(path)["rows"]
    assert [row["kind"] for row in rows] == ["random points", "file operations"]
    assert [row["lost"] for row in rows] == [[], []]
    assert rows[0]["kills"] == 2
    assert rows[1]["kills"] > 1
    assert sum(row["rows_kept"] for row in rows) > 0
