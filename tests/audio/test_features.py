from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio.features import log_mel


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 30.0])
def test_features_are_what_the_encoder_takes(tone: Callable[..., np.ndarray], mels: int, seconds: float) -> None:
    features = log_mel(tone(seconds), WhisperFeatureExtractor(feature_size=mels))
    assert features.shape == (1, mels, 3000)
    assert features.dtype == torch.float32
    assert features.device.type == "cpu"
    assert torch.isfinite(features).all()


def test_a_tone_is_where_it_should_be(tone: Callable[..., np.ndarray]) -> None:
    features = log_mel(tone(1, hertz=1000), WhisperFeatureExtractor())[0]
    # 81 equal steps of the mel scale (Slaney's: 15 at 1 kHz, 15 + 27 ln 8 / ln 6.4 at 8 kHz) separate 80 filters.
    expected = 15 / (15 + 27 * np.log(8) / np.log(6.4)) * 81 - 1
    assert features[:, 10:90].mean(dim=1).argmax().item() == pytest.approx(expected, abs=1)
    assert features[:, 110:].max() == features.min()  # silence after the tone
