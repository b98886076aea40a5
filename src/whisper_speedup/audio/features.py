"""Log-mel features, the encoder's input."""

from typing import Any

import numpy as np
import torch

from whisper_speedup.audio.decode import SAMPLING_RATE


def log_mel(audio: np.ndarray, extractor: Any) -> torch.Tensor:
    """Features (1, mels, 3000), float32, on the CPU, of `audio` (n,) float32 at 16 kHz, padded to 30 s with silence.

    `extractor` is the checkpoint's own transformers WhisperFeatureExtractor: 80 mels, or 128 for large-v3.
    """
    return extractor(audio, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features.to(torch.float32)
