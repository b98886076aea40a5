"""Weights into memory: the one place that does, so that no engine can be talked into running a checkpoint's code."""

from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration


def load_model(model_dir: Path, dtype: torch.dtype, attention: str) -> WhisperForConditionalGeneration:
    """The Hugging Face folder's Whisper on the CPU. `attention`: transformers' name of its attention.

    Only files of this folder are read: safetensors, or where there are none torch files of plain weights.
    """
    stored: Any = any((model_dir / f"model.safetensors{end}").is_file() for end in ("", ".index.json"))
    model: WhisperForConditionalGeneration = WhisperForConditionalGeneration.from_pretrained(
        model_dir, dtype=dtype, attn_implementation=attention, use_safetensors=stored, weights_only=True,
        trust_remote_code=False, local_files_only=True,
    )  # fmt: skip
    return model
