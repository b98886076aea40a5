"""Harder versions of a clip: white noise over it, and another speed."""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np

from whisper_speedup.audio.decode import Waveform, resample, window
from whisper_speedup.audio.row import SAMPLING_RATE
from whisper_speedup.params.sources import Variations


def vary(clip_id: str, clip: Waveform, variations: Variations | None) -> Iterator[tuple[str, Waveform]]:
    """The clip itself, then each variation, with ids such as `cards-001+noise10db` and `cards-001+speed0.9`."""
    yield clip_id, clip
    if variations is None:
        return
    for snr_db in variations.noise_snr_db:
        kind = f"noise{snr_db:g}db"
        yield f"{clip_id}+{kind}", Waveform(add_noise(clip.samples, snr_db, clip_id, variations.seed), clip.cut_from_s)
    for speed in variations.speeds:
        yield f"{clip_id}+speed{speed:g}", change_speed(clip, speed)


def add_noise(samples: np.ndarray, snr_db: float, clip_id: str, seed: int) -> np.ndarray:
    """`samples` (n,) plus white Gaussian noise at `snr_db` below the clip's mean power; silence stays silence.

    The noise depends on the seed, the clip and the SNR alone, not on the clips before it.
    """
    digest = sha256(f"{seed}/{clip_id}/noise{snr_db:g}db".encode()).digest()
    noise = np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal(len(samples))
    power = np.mean(np.square(samples, dtype=np.float64))
    return (samples + noise * np.sqrt(power / 10 ** (snr_db / 10))).astype(np.float32)


def change_speed(clip: Waveform, speed: float) -> Waveform:
    """As a tape that runs `speed` times as fast: the pitch moves too. Cut to 30 s again where slower is longer."""
    samples = resample(clip.samples, SAMPLING_RATE * speed, SAMPLING_RATE)
    was_s = clip.duration_s if clip.cut_from_s is None else clip.cut_from_s
    if clip.cut_from_s is None:
        return window(samples, was_s / speed)
    # What was cut off is gone, so a faster version is shorter than 30 s and yet cut.
    return Waveform(window(samples, was_s / speed).samples, round(was_s / speed, 6))
