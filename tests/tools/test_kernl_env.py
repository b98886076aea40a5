"""make kernl-env, with a stand-in for Python 3.10: when it makes the environment again, and what it leaves alone."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Answers what the Makefile asks, makes "environments" of itself, and notes what pip is asked for.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c "*) exit 0 ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") for last; do :; done; echo "$last" >> "{calls}"; [ ! -d "$last" ] || touch "$last/kernl.egg-info" ;;
esac
"""


@pytest.fixture
def make(tmp_path: Path) -> "Make":
    return Make(tmp_path)


class Make:
    """A folder with our Makefile, an interpreter, and a checkout of Kernl."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        for name in ("Makefile", "requirements-kernl.txt"):
            (folder / name).symlink_to(ROOT / name)
        self.kernl = folder / "my kernl"
        (self.kernl / "src" / "kernl").mkdir(parents=True)
        (self.kernl / ".git").mkdir()
        (self.kernl / "src" / "kernl" / "a.py").write_text("x = 1\n")
        self.interpreter("python3.10")

    def interpreter(self, name: str) -> str:
        path = self.folder / name
        path.write_text(PYTHON.format(calls=self.calls))
        path.chmod(0o755)
        return str(path)

    def __call__(self, **variables: str) -> list[str]:
        """What pip was asked to install."""
        self.calls.write_text("")
        done = self.run(**variables)
        assert done.returncode == 0, done.stderr
        return self.calls.read_text().splitlines()

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"KERNL_PYTHON": str(self.folder / "python3.10"), "KERNL_SOURCE": str(self.kernl), **variables}
        return subprocess.run(
            ["make", "kernl-env", *(f"{name}={value}" for name, value in given.items())], cwd=self.folder, text=True,
            capture_output=True, env={"PATH": os.environ["PATH"]}, check=False,
        )  # fmt: skip


def test_nothing_is_done_twice(make: Make) -> None:
    assert make() == ["requirements-kernl.txt", "./build/kernl-source"]
    assert make() == []


def test_another_source_interpreter_or_content_makes_it_again(make: Make) -> None:
    make()
    assert make(KERNL_SOURCE="git+https://example.org/kernl@1")[-1] == "git+https://example.org/kernl@1"
    assert make()[-1] == "./build/kernl-source"
    assert make(KERNL_PYTHON=make.interpreter("another"))[-1] == "./build/kernl-source"
    make()
    (make.kernl / "src" / "kernl" / "a.py").write_text("x = 2\n")
    assert make()[-1] == "./build/kernl-source"
    assert (make.folder / "build" / "kernl-source" / "src" / "kernl" / "a.py").read_text() == "x = 2\n"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("KERNL_PYTHON", "no-such-python", "there is no no-such-python"),
        ("KERNL_SOURCE", "no-such-folder", "there is no src/kernl in it: name a checkout of ELS-RD/kernl"),
        ("KERNL_SOURCE", ".", "there is no src/kernl in it"),
    ],
)
def test_what_cannot_be_had_leaves_the_environment_as_it_is(
    make: Make, variable: str, value: str, sentence: str
) -> None:
    make()
    done = make.run(**{variable: value})
    assert done.returncode == 2
    assert sentence in done.stderr
    assert make() == []


def test_the_users_folder_stays_as_it_is(make: Make) -> None:
    before = sorted(make.kernl.rglob("*"))
    make()
    assert sorted(make.kernl.rglob("*")) == before
    assert (make.folder / "build" / "kernl-source" / "kernl.egg-info").exists()
