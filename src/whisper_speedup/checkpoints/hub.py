"""Weights from the Hugging Face hub, at a pinned commit, left in the ordinary Hugging Face cache."""

from pathlib import Path

from whisper_speedup.checkpoints.folder import OPTIONAL, REQUIRED, used_files
from whisper_speedup.errors import UserError
from whisper_speedup.hub import downloads, revisions
from whisper_speedup.hub.downloads import Wanted

CONFIGURATIONS = [*REQUIRED, *OPTIONAL, "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt",
                  "processor_config.json"]  # fmt: skip
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors"]
TORCH = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-?????-of-?????.bin"]


def wanted(repo_id: str, commit: str) -> list[Wanted]:
    """The files that transformers reads, and no more: torch files only where there is no safetensors file."""
    files = downloads.wanted(repo_id, "model", commit, CONFIGURATIONS + SAFETENSORS)
    if not any(file.name in SAFETENSORS[:2] for file in files):
        files += downloads.wanted(repo_id, "model", commit, TORCH)
    return files


def fetch(repo_id: str, revision: str | None) -> tuple[Path, str]:
    """Download what `wanted` names; returns the folder in the cache and the commit.

    What the cache holds already is not fetched again, and with HF_HUB_OFFLINE=1 nothing is. Raises UserError when the
    hub cannot be reached or does not know the repository.
    """
    commit = revisions.resolve(repo_id, "model", revision)
    try:
        files = wanted(repo_id, commit)
    except UserError:
        folder = left_by_others(repo_id, commit)
        if folder is None:
            raise
        return folder, commit
    return downloads.fetch(repo_id, "model", commit, files), commit


def left_by_others(repo_id: str, commit: str) -> Path | None:
    """A whole Whisper in the cache that another program, such as transformers, put there: it keeps no listing of the
    repository, without which the cache alone cannot tell what is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo_id, revision=commit, local_files_only=True))
        used_files(folder)
    except (LocalEntryNotFoundError, HFValidationError, UserError):  # the last but one: no name that the hub can have
        return None
    return folder
