"""Which commit of each hub repository this project uses: revisions.json, filled by the first download.

The file holds {name: 40 hexadecimal digits}, sorted, where a dataset's name starts with `datasets/` as on the hub.
It belongs in Git: a later run, here or elsewhere, uses the same commit.
"""

import os
import re
from pathlib import Path
from typing import Literal

from whisper_speedup import storage
from whisper_speedup.errors import UserError
from whisper_speedup.files import read_json, write_json

REVISIONS = Path("revisions.json")
RepoType = Literal["dataset", "model"]


def read(path: Path = REVISIONS) -> dict[str, str]:
    """The recorded commits, none when there is no file yet. Raises UserError when the file holds anything else."""
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object of repository names and commits: restore it with git.")
    for name, commit in content.items():
        if not (isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}", commit)):
            raise UserError(f"{path}: {name} is {commit!r}, not a commit of 40 hexadecimal digits: remove that line.")
    return content


def resolve(repo_id: str, repo_type: RepoType, revision: str | None, path: Path = REVISIONS) -> str:
    """The commit to use for `repo_id`: the profile's `revision`, else the recorded one, else what the hub says now.

    Only the last asks the hub, and records the answer. With HF_HUB_OFFLINE=1 the Hugging Face cache answers in its
    place. Raises UserError when the hub cannot be reached or does not know the repository.
    """
    if revision is not None:
        return revision
    name = f"datasets/{repo_id}" if repo_type == "dataset" else repo_id
    recorded = read(path)
    if name not in recorded:
        write_json(path, {**recorded, name: _ask(repo_id, repo_type)})
    return read(path)[name]


def hub_error(repo_id: str, repo_type: RepoType, error: Exception) -> UserError:
    """The sentence for a failed request to the hub, the same for weights and speech."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return UserError(f"the {repo_type} {repo_id} is gated: accept its terms on the hub and set HF_TOKEN.")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"the {repo_type} {repo_id} has no such revision: correct it in the profile or {REVISIONS}.")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return UserError(f"the hub has no {repo_type} {repo_id}: correct its name in the profile.")
    if isinstance(error, OSError) and (sentence := storage.failure(error)):
        return UserError(sentence)
    reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
    return UserError(
        f"the {repo_type} {repo_id} could not be fetched from the Hugging Face hub ({reason[:200]}): offline, "
        "run PROFILE=bundled, which needs no hub, or set HF_HUB_OFFLINE=1 with a filled cache."
    )


def _ask(repo_id: str, repo_type: RepoType) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    api = HfApi()
    try:
        ask = api.dataset_info if repo_type == "dataset" else api.model_info
        commit = ask(repo_id, timeout=30).sha
    except OfflineModeIsEnabled as error:
        commit = _cached(repo_id, repo_type)
        if commit is None:
            raise hub_error(repo_id, repo_type, error) from None
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        raise hub_error(repo_id, repo_type, error) from None
    if commit is None or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(f"the hub named no commit for the {repo_type} {repo_id}: give `revision` in the profile.")
    return commit


def _cached(repo_id: str, repo_type: RepoType) -> str | None:
    """The commit that the local Hugging Face cache last saw as `main`."""
    from huggingface_hub.constants import HF_HUB_CACHE

    ref = Path(os.path.expanduser(HF_HUB_CACHE)) / f"{repo_type}s--{repo_id.replace('/', '--')}" / "refs" / "main"
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None
