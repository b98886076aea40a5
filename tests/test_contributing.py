"""The engine of CONTRIBUTING.md, taken from its text, in a copy of the source and in a package, decodes speech."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STAGES = """
from whisper_speedup.cli import main
for stage in ("data", "model", "decode --engine huggingface", "decode --engine eager"):
    main([*stage.split(), "--profile", "bundled"])
"""
PROFILE = """
data: {source: samples, clips: [cards-003]}
model: {source: bundled, name: tiny.en}
generation: {num_beams: 2, max_length: 12}
measure: {device: cpu, threads: 1, eager: {precision: float32}}
"""
PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "whisper-eager"
version = "1.0"
[tool.setuptools]
py-modules = ["whisper_eager"]
"""


def block(language: str) -> str:
    """The text's fenced block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return found


def source(folder: Path) -> None:
    """A copy of ours with the engine in it."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "samples").symlink_to(ROOT / "samples")
    path, code = block("python").removeprefix("# ").split("\n", 1)
    (folder / path).write_text(code, encoding="utf-8")
    group, line = block("toml").rstrip("\n").split("\n")
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert ours.count(group) == 1
    (folder / "pyproject.toml").write_text(ours.replace(group, f"{group}\n{line}"), encoding="utf-8")


def package(folder: Path) -> None:
    """A package that brings it."""
    (folder / "whisper_eager.py").write_text(block("python"), encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        PACKAGE + block("toml").replace("whisper_speedup.engines.eager:", "whisper_eager:"), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("write", "settings"),
    [(source, {"precision": "float32"}), (package, {"precision": "float32", "package": "whisper-eager 1.0"})],
)
def test_the_engine_of_the_text_decodes_as_the_baseline_does(
    write: Callable[[Path], None], settings: dict[str, str], tmp_path: Path
) -> None:
    """Installed into a folder of its own, which comes before everything else on the path."""
    folder, target, here = (tmp_path / name for name in ("folder", "target", "here"))
    folder.mkdir()
    write(folder)
    python(tmp_path, "", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
           "--no-compile", "--target", str(target), str(folder))  # fmt: skip
    (here / "profiles").mkdir(parents=True)
    (here / "samples").symlink_to(ROOT / "samples")
    (here / "params.yaml").write_text("profile: bundled\nengines: [eager]\n", encoding="utf-8")
    (here / "profiles" / "bundled.yaml").write_text(PROFILE, encoding="utf-8")
    path = os.pathsep.join([str(target), str(ROOT / "src")])
    python(here, path, "-c", STAGES)
    runs = here / "build" / "bundled" / "runs"
    rows = [json.loads((runs / name / "results.jsonl").read_text()) for name in ("huggingface", "eager")]
    assert rows[0]["tokens"]
    assert rows[0]["tokens"] == rows[1]["tokens"]
    assert json.loads((runs / "eager" / "run.json").read_text())["settings"] == settings
    python(here, path, "-m", "whisper_speedup", "profile", "--write")
    written = (here / "build" / "bundled" / "engines.yaml").read_text(encoding="utf-8")
    assert written.endswith("eager:\n  precision: float32\n")


def python(folder: Path, path: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


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
