from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio.features import features_on, log_mel


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 30.0])
def test_features_are_what_the_encoder_takes(tone: Callable[..., np.ndarray], mels: int, seconds: float) -> None:
    features = log_mel(tone(seconds), WhisperFeatureExtractor(feature_size=mels))
    assert features.shape == (1, mels, 3000)
    assert features.dtype == torch.float32
    assert features.device.type == "cpu"
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_on_a_cpu_both_places_are_the_same(tone: Callable[..., np.ndarray], where: Literal["cpu", "device"]) -> None:
    audio, extractor = tone(2.0), WhisperFeatureExtractor()
    assert torch.equal(features_on(torch.device("cpu"), audio, extractor, where), log_mel(audio, extractor))


@pytest.mark.gpu
@pytest.mark.parametrize("mels", [80, 128])
def test_on_a_gpu_they_differ_in_their_last_bits_alone(tone: Callable[..., np.ndarray], mels: int) -> None:
    audio, extractor = tone(7.3, hertz=433), WhisperFeatureExtractor(feature_size=mels)
    device = torch.device("cuda")
    moved, there = (features_on(device, audio, extractor, where) for where in ("cpu", "device"))
    assert there.device.type == moved.device.type == "cuda"
    assert there.dtype == torch.float32
    # log10 of a power that is within 1e-4 of the CPU's, a quarter of it: of silence's floor even less.
    assert torch.allclose(there, moved, atol=1e-4, rtol=0)
    assert torch.equal(there, features_on(device, audio, extractor, "device"))


def test_a_tone_is_where_it_should_be(tone: Callable[..., np.ndarray]) -> None:
    features = log_mel(tone(1, hertz=1000), WhisperFeatureExtractor())[0]
    # 81 equal steps of the mel scale (Slaney's: 15 at 1 kHz, 15 + 27 ln 8 / ln 6.4 at 8 kHz) separate 80 filters.
    expected = 15 / (15 + 27 * np.log(8) / np.log(6.4)) * 81 - 1
    assert features[:, 10:90].mean(dim=1).argmax().item() == pytest.approx(expected, abs=1)
    assert features[:, 110:].max() == features.min()  # silence after the tone
