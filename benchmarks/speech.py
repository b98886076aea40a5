"""The recordings that scripts here decode: 16 kHz FLAC or WAV files in folders."""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperFeatureExtractor


def clips_in(folders: Sequence[Path]) -> list[Path]:
    """Every FLAC and WAV of each folder, sorted folder by folder."""
    return [clip for folder in folders for clip in sorted([*folder.glob("*.flac"), *folder.glob("*.wav")])]


def read(clip: Path) -> tuple[Any, int]:
    """Samples in fp32 and their rate."""
    if clip.suffix == ".wav":  # 16-bit mono, without the library, which is not on every machine with a GPU
        with wave.open(str(clip)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            return samples.astype(np.float32) / 32768, file.getframerate()
    import soundfile

    return soundfile.read(clip, dtype="float32")


def features(clip: Path, extractor: WhisperFeatureExtractor) -> torch.Tensor:
    """Log-mel features (1, mels, 3000) of a 16 kHz file."""
    audio, rate = read(clip)
    return extractor(audio, sampling_rate=rate, return_tensors="pt").input_features
