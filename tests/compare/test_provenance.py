import shutil
import subprocess

import pytest

from whisper_speedup.compare.provenance import git_state

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def git(folder, *arguments):
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def repository(folder):
    git(folder, "init", "-q")
    (folder / "code.py").write_text("1\n")
    git(folder, "add", "code.py")
    git(folder, "commit", "-q", "-m", "first")


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == {"commit": None, "changed": []}


@needs_git
def test_inside_another_checkout(tmp_path):
    repository(tmp_path)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    (unpacked / "code.py").write_text("1\n")
    assert git_state(unpacked) == {"commit": None, "changed": []}


def test_without_a_git_to_ask(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {"commit": None, "changed": []}


@needs_git
def test_a_clean_checkout_and_a_changed_one(tmp_path):
    repository(tmp_path)
    state = git_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["changed"] == []
    (tmp_path / "code.py").write_text("2\n")
    (tmp_path / "new folder").mkdir()
    (tmp_path / "new folder" / "naïve.py").write_text("3\n")
    # What the pipeline writes itself is no change of the code.
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "bundled.html").write_text("")
    (tmp_path / "dvc.lock").write_text("")
    assert git_state(tmp_path) == {"commit": state["commit"], "changed": ["code.py", "new folder/naïve.py"]}
