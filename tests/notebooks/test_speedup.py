"""The notebook runs from its first cell to its last, on two recordings."""

import json
import shutil
import types
from pathlib import Path

import pytest

from tests.tool import load

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "speedup.ipynb"


def tool() -> types.ModuleType:
    """tools/run_notebook.py, which is no package's."""
    return load("run_notebook")


def printed(notebook: dict) -> str:
    return "".join(line for cell in notebook["cells"] for out in cell.get("outputs", []) for line in out["text"])


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_CLIPS", "2")
    before = NOTEBOOK.read_bytes()
    text = printed(tool().run(NOTEBOOK))
    assert "2 recordings" in text
    assert "0 of 2 outputs differ" in text
    assert "PathTaken(path='decoder', reason=None)" in text
    assert "PathTaken(path='whole model', reason=None)" in text
    assert NOTEBOOK.read_bytes() == before


def test_what_is_published_ran_whole() -> None:
    """The outputs in Git are one run of all cells as they are."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "0 of 13 outputs differ" in printed(notebook)


def test_a_cell_that_fails_ends_the_run(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": [line], "outputs": []} for line in ("a = 1", "print(a)", "a / 0", "b")]
    path = tmp_path / "broken.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        tool().run(path)
