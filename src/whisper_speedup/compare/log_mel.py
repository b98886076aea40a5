"""A recording's log-mel spectrogram as a small PNG: what the encoder sees, shrunk to a picture."""

import itertools
import struct
import zlib

import numpy as np
import numpy.typing as npt

from whisper_speedup.audio.decode import SAMPLING_RATE

MELS, HOP, WINDOW = 80, 160, 400  # Whisper's own
WIDTH = 400  # pixels at most; a longer recording averages neighbouring frames
LEVELS = 24
# From near black over violet and orange to pale yellow, evenly in lightness: readable in print and by the colour-blind.
_STOPS = [(10, 7, 34), (87, 21, 126), (182, 54, 121), (251, 135, 97), (252, 253, 191)]


def picture(samples: npt.NDArray[np.float32]) -> bytes:
    """PNG of 80 rows, low bands at the bottom, and up to 400 columns, from samples (n,) at 16 kHz."""
    import librosa  # slow to import, and most runs have no output that differs

    power = librosa.feature.melspectrogram(y=samples, sr=SAMPLING_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS)
    log = np.log10(np.maximum(power, 1e-10))
    log = np.maximum(log, log.max() - 8)  # Whisper's floor: 80 dB below the loudest
    frames = log.shape[1]
    edges = np.linspace(0, frames, min(WIDTH, frames) + 1).astype(int)
    small = np.stack([log[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)], axis=1)
    span = float(small.max() - small.min())
    levels = np.rint((small - small.min()) / span * (LEVELS - 1)) if span else np.zeros_like(small)
    return _png(levels[::-1].astype(np.uint8))


def _png(indices: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit palette PNG of indices (rows, columns)."""
    height, width = indices.shape
    at = np.linspace(0, len(_STOPS) - 1, LEVELS)
    stops = np.array(_STOPS, dtype=np.float64)
    palette = np.stack([np.interp(at, np.arange(len(_STOPS)), stops[:, c]) for c in range(3)], axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", np.rint(palette).astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
