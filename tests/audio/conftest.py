"""Made-up sound in every format, so that no test needs a file of its own."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

SUBTYPES = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}


def make_tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """A tone (n,), float32, at a third of full scale."""
    return (np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate) / 3).astype(np.float32)


def encode_audio(samples: np.ndarray, rate: int = 16_000, container: str = "WAV", subtype: str | None = None) -> bytes:
    """A whole file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype or SUBTYPES.get(container, "PCM_16"))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tone() -> Callable[..., np.ndarray]:
    return make_tone


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encode_audio
