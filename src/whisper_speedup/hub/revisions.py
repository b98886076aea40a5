"""Which commit of each hub repository this project uses, and what its files held: revisions.json.

The first download fills it. It holds {name: commit of 40 hexadecimal digits} and {name@commit: {file: SHA-256}},
sorted, where a dataset's name starts with `datasets/` as on the hub. It belongs in Git: a later run, here or elsewhere,
uses the same commit, and refuses files that changed under it. A commit alone promises that only as far as one trusts
the server: the hub's protocol has no proof that a file belongs to a commit.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.errors import UserError, shown
from whisper_speedup.hub.answers import RepoType, asking

REVISIONS = Path("revisions.json")


def read(path: Path = REVISIONS) -> dict[str, str]:
    """The recorded commits, none when there is no file yet. Raises UserError when the file holds anything else."""
    return {name: value for name, value in _content(path).items() if isinstance(value, str)}


def resolve(repo_id: str, repo_type: RepoType, revision: str | None, path: Path = REVISIONS) -> str:
    """The commit to use for `repo_id`: the profile's `revision`, else the recorded one, else what the hub says now.

    Only the last asks the hub, and records the answer. With HF_HUB_OFFLINE=1 the Hugging Face cache answers in its
    place. Raises UserError when the hub cannot be reached or does not know the repository.
    """
    if revision is not None:
        return revision
    name = _name(repo_id, repo_type)
    if name not in (recorded := read(path)):
        recorded[name] = _ask(repo_id, repo_type)
        write_json(path, {**_content(path), name: recorded[name]})
    return recorded[name]


def confirm(repo_id: str, repo_type: RepoType, commit: str, files: Mapping[str, str], path: Path = REVISIONS) -> None:
    """Refuse a file that is not what this commit held before. `files`: names and SHA-256.

    What has no record yet is recorded. Raises UserError naming the file, what was expected and what was found.
    """
    content = _content(path)
    key = f"{_name(repo_id, repo_type)}@{commit}"
    before = content.get(key, {})
    for name, digest in files.items():
        if before.get(name, digest) != digest:
            raise UserError(
                f"{name} of the {repo_type} {repo_id} has the SHA-256 {digest} and {path} records {before[name]} for"
                f" commit {commit}: a file must not change under a commit, so delete it from the Hugging Face cache and"
                " fetch it from a hub that you trust."
            )
    if not before.items() >= files.items():
        write_json(path, {**content, key: {**before, **files}})


def _name(repo_id: str, repo_type: RepoType) -> str:
    return f"datasets/{repo_id}" if repo_type == "dataset" else repo_id


def _content(path: Path) -> dict[str, Any]:
    """The whole file, checked; empty where there is none yet."""
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object of repository names and commits: restore it with git.")
    for name, value in content.items():
        if "@" in name:
            digests = list(value.values()) if isinstance(value, dict) else [None]
            if not all(isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
                raise UserError(f"{path}: {shown(name)} must hold file names and SHA-256 hashes: remove that entry.")
        elif not (isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40}", value)):
            raise UserError(
                f"{path}: {shown(name)} is {shown(value)}, not a commit of 40 hexadecimal digits: remove that line."
            )
    return content


def _ask(repo_id: str, repo_type: RepoType) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    api = HfApi()
    with asking(repo_id, repo_type):
        ask = api.dataset_info if repo_type == "dataset" else api.model_info
        try:
            commit = ask(repo_id, timeout=30).sha
        except OfflineModeIsEnabled:
            commit = _cached(repo_id, repo_type)
            if commit is None:
                raise
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(f"the hub named no commit for the {repo_type} {repo_id}: give `revision` in the profile.")
    return commit


def _cached(repo_id: str, repo_type: RepoType) -> str | None:
    """The commit that the local Hugging Face cache last saw as `main`."""
    from huggingface_hub.constants import HF_HUB_CACHE

    ref = Path(os.path.expanduser(HF_HUB_CACHE)) / f"{repo_type}s--{repo_id.replace('/', '--')}" / "refs" / "main"
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None
