"""Weights from the Hugging Face hub, at a pinned commit, left in the ordinary Hugging Face cache."""

from pathlib import Path

from whisper_speedup import revisions
from whisper_speedup.checkpoints.folder import OPTIONAL, REQUIRED

CONFIGURATIONS = [*REQUIRED, *OPTIONAL, "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt",
                  "processor_config.json"]  # fmt: skip
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors"]
TORCH = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-?????-of-?????.bin"]


def fetch(repo_id: str, revision: str | None) -> tuple[Path, str]:
    """Download what transformers reads, and no more; returns the folder in the cache and the commit.

    Torch files are fetched only when there is no safetensors file. What the cache holds already is not fetched
    again, and with HF_HUB_OFFLINE=1 nothing is. Raises UserError when the hub cannot be reached or does not know the
    repository.
    """
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    commit = revisions.resolve(repo_id, "model", revision)
    try:
        folder = Path(snapshot_download(repo_id, revision=commit, allow_patterns=CONFIGURATIONS + SAFETENSORS))
        if not any((folder / name).exists() for name in SAFETENSORS[:2]):
            snapshot_download(repo_id, revision=commit, allow_patterns=TORCH)
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        raise revisions.hub_error(repo_id, "model", error) from None
    return folder, commit
