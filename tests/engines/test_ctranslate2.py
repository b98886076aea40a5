"""CTranslate2 on tiny Whispers converted from Hugging Face folders: the baseline's tokens, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints.folders import write_folder
from tests.engines.test_huggingface import generation
from whisper_speedup.engines import ctranslate2 as module
from whisper_speedup.engines.ctranslate2 import CTranslate2
from whisper_speedup.params import CTranslate2Params

CPU = torch.device("cpu")
VOCABULARY = 256 + 107 + 1501  # bytes, special tokens, timestamps


def folder_of(path: Path, seed: int) -> Path:
    """A folder whose model knows its tokenizer's whole vocabulary, with gains that make its logits differ."""
    torch.manual_seed(seed)
    write_folder(path)
    return path


def peer(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "ctranslate2", **asked: Any) -> CTranslate2:
    monkeypatch.setattr(module, "MODELS", folder.parent / "models")
    found = CTranslate2(CTranslate2Params(patience=1), name)
    found.load(folder, generation(**asked), CPU)
    return found
