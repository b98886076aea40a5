"""Which commit the numbers were made from, and whether the working tree was that commit."""

import subprocess
from pathlib import Path

# What the pipeline itself writes while it runs says nothing about the code.
_WRITTEN_BY_THE_PIPELINE = ("reports/", "dvc.lock", "params.yaml")


def git_state(root: Path) -> dict[str, str | list[str] | None]:
    """`commit` and `changed`: the tracked or new files that differ from it, sorted.

    `commit` is null where `root` is no part of it: outside a Git checkout, or in an archive unpacked inside another.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None or not _git(root, "ls-tree", "HEAD"):
        return {"commit": None, "changed": []}
    # -z keeps odd file names as they are; without --untracked-files=all a new folder would hide its files.
    status = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all") or ""
    names = [entry[3:] for entry in status.split("\0") if entry]
    changed = sorted(name for name in names if not name.startswith(_WRITTEN_BY_THE_PIPELINE))
    return {"commit": commit.strip(), "changed": changed}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
