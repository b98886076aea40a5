"""Log-mel features, the encoder's input."""

from typing import Any

import numpy as np
import torch

from whisper_speedup.audio.row import SAMPLING_RATE
from whisper_speedup.params.profile import FeaturesPlace

CPU = torch.device("cpu")


def log_mel(audio: np.ndarray, extractor: Any, computed_on: torch.device = CPU) -> torch.Tensor:
    """Features (1, mels, 3000), float32, on the CPU, of `audio` (n,) float32 at 16 kHz, padded to 30 s with silence.

    `extractor` is the checkpoint's own transformers WhisperFeatureExtractor: 80 mels, or 128 for large-v3. It brings
    the result back to the CPU wherever it is computed; 0.96 MB of it at 80 mels.
    """
    found = extractor(audio, sampling_rate=SAMPLING_RATE, return_tensors="pt", device=str(computed_on))
    return found.input_features.to(torch.float32)


def features_on(device: torch.device, audio: np.ndarray, extractor: Any, where: FeaturesPlace) -> torch.Tensor:
    """`log_mel` of `audio` on `device`, computed there or on the CPU, as `measure.features` says.

    Another device adds in another order, so features computed there differ in their last bits.
    """
    if where == "cpu" or device.type == "cpu":
        return log_mel(audio, extractor).to(device)
    # On a stream of its own it waits for nothing that an engine has asked for; a batch engine calls this from several
    # threads. What comes back is on the CPU, and so done.
    with torch.cuda.stream(torch.cuda.Stream(device)):
        found = log_mel(audio, extractor, device)
    return found.to(device)
