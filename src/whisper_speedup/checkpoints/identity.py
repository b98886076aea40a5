"""Which weights a run used, as one hash."""

from hashlib import sha256
from typing import Any

from whisper_speedup.errors import UserError


def weights_sha256(model: Any) -> str:
    """One SHA-256 over the names and hashes of model.json's weight files, one or many.

    Raises UserError when `model`, the content of model.json, lists none.
    """
    files = model.get("files", []) if isinstance(model, dict) else []
    try:
        weights = [file for file in files if file["name"].endswith((".safetensors", ".bin"))]
        lines = [f"{file['name']} {file['sha256']}" for file in weights]
    except (TypeError, KeyError, AttributeError):
        raise UserError("model.json is not what the model stage writes: run dvc repro --force model.") from None
    if not lines:
        raise UserError("model.json lists no weights: run dvc repro to make the model again.")
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


def model_sha256(model: Any) -> str:
    """One SHA-256 over all files of model.json: weights, configurations, tokenizer. Raises UserError as above."""
    weights_sha256(model)
    lines = [f"{file['name']} {file['sha256']}" for file in model["files"]]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()
