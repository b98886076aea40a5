"""How tools/run_dockerfile.py reads instructions; `make docker-check` runs them, which takes root and minutes."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("run_dockerfile", ROOT / "tools" / "run_dockerfile.py")
assert SPEC is not None
assert SPEC.loader is not None
tool = importlib.util.module_from_spec(SPEC)
sys.modules["run_dockerfile"] = tool
SPEC.loader.exec_module(tool)


def test_the_projects_own_file_is_served() -> None:
    found = tool.parse((ROOT / "Dockerfile").read_text())
    names = [name for name, _ in found]
    assert names[:2] == ["ARG", "FROM"]
    assert names[-1] == "CMD"
    assert ("RUN", "make setup TORCH=${TORCH}") in found
    (apt,) = (rest for name, rest in found if "apt-get install" in rest)
    assert "\\" not in apt
    assert apt.count("&&") == 2


def test_comments_go_and_lines_are_joined() -> None:
    text = "FROM a AS b\n# no\nRUN one \\\n# between\n    && two\n"
    assert tool.parse(text) == [("FROM", "a AS b"), ("RUN", "one && two")]


def test_an_instruction_that_it_would_leave_out_is_refused() -> None:
    with pytest.raises(ValueError, match="HEALTHCHECK is not served"):
        tool.parse("FROM a\nHEALTHCHECK CMD true\n")


def test_variables() -> None:
    state = tool.State(arguments={"TORCH": "cpu"}, environment={"PATH": "/bin"})
    assert tool.expand("make TORCH=${TORCH} $PATH ${NONE}.", state) == "make TORCH=cpu /bin ."


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("build/x.json", True), ("src/build/x", False), (".venv/bin/python", True), ("a/b/__pycache__/c.pyc", True),
        ("src/whisper_speedup.egg-info/PKG-INFO", True), (".ruff_cache/x", True), ("src/a.py", False),
        (".git/HEAD", False), ("reports/x.tmp", True), (".dvc/config", False), (".dvc/cache/files/x", True),
    ],
)  # fmt: skip
def test_dockerignore(name: str, left_out: bool) -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert tool.ignored(name, patterns) is left_out


def test_without_a_root_it_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([]) == 2
    assert "run_dockerfile.py ROOT" in capsys.readouterr().err
    assert tool.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
