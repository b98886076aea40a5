import subprocess

from whisper_speedup.compare.provenance import git_state


def git(folder, *arguments):
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == {"commit": None, "changed": []}


def test_a_clean_checkout_and_a_changed_one(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
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
