"""CONTRIBUTING.md's engine, taken from its text, added to a copy of the source and run on a real recording."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STAGES = """
from whisper_speedup.cli import main
for stage in ("data", "model", "decode --engine huggingface", "decode --engine eager"):
    main([*stage.split(), "--profile", "bundled"])
"""


def blocks(language: str) -> list[str]:
    """The text's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def apply(patch: str, folder: Path) -> None:
    """Add a block's + lines to the file that it names. Its other lines must stand there just once."""
    name, *lines = patch.splitlines()
    path = folder / name.removeprefix("--- ")
    text = path.read_text(encoding="utf-8")
    for part in "\n".join(lines).split("\n...\n"):
        changed = part.split("\n")
        before = "".join(f"{line[1:]}\n" for line in changed if not line.startswith("+"))
        after = "".join(f"{line[1:]}\n" for line in changed)
        assert text.count(before) == 1, (
            f"{name}: CONTRIBUTING.md says {before!r}, and that is there {text.count(before)} times"
        )
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source with the engine in it, and the profile with one recording and a short search."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (engine,) = blocks("python")
    first, rest = engine.split("\n", 1)
    (tmp_path / first.removeprefix("# ")).write_text(rest, encoding="utf-8")
    patches = blocks("diff")
    assert len(patches) == 5
    for patch in patches:
        apply(patch, tmp_path)
    profile = tmp_path / "profiles" / "bundled.yaml"
    text = profile.read_text(encoding="utf-8")
    short = {
        "clips: null": "clips: [cards-003]", "num_beams: 5": "num_beams: 2", "max_length: 50": "max_length: 12",
        "device: auto": "device: cpu", "threads: null": "threads: 1",
    }  # fmt: skip
    for old, new in short.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    profile.write_text(text, encoding="utf-8")
    return tmp_path


def test_the_engine_of_the_text_decodes_as_the_baseline_does(copy: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run([sys.executable, "-c", STAGES], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = copy / "build" / "bundled" / "runs"
    rows = [json.loads((runs / name / "results.jsonl").read_text()) for name in ("huggingface", "eager")]
    assert rows[0]["tokens"]
    assert rows[0]["tokens"] == rows[1]["tokens"]
    run = json.loads((runs / "eager" / "run.json").read_text())
    assert run["settings"] == {"precision": "float32"}


def test_the_map_names_what_there_is() -> None:
    """Every folder and file of the map exists."""
    block = TEXT.split("## The map of the house", 1)[1].split("\nImports", 1)[0]
    folder, names = ROOT, []
    for line in block.splitlines():
        path = re.split(r" {3,}", line.strip())[0]
        folder = ROOT / "src" / "whisper_speedup" if line.startswith("        ") else ROOT
        names += [folder / name for name in path.split()]
    assert len(names) > 20
    assert [str(path) for path in names if not path.exists()] == []
