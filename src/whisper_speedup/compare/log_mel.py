"""A recording's log-mel spectrogram as a small PNG: what the encoder sees, shrunk to a picture."""

import io
import itertools

import numpy as np
import numpy.typing as npt

from whisper_speedup.audio.numba_cache import import_librosa
from whisper_speedup.audio.row import SAMPLING_RATE

MELS, HOP, WINDOW = 80, 160, 400  # Whisper's own
WIDTH = 400  # pixels at most; a longer recording averages neighbouring frames
LEVELS = 24


def picture(samples: npt.NDArray[np.float32]) -> bytes:
    """PNG of 80 rows, low bands at the bottom, and up to 400 columns, from samples (n,) at 16 kHz."""
    from matplotlib import colormaps  # slow to import, and most runs have no output that differs
    from PIL import Image

    feature = import_librosa().feature
    power = feature.melspectrogram(y=samples, sr=SAMPLING_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS)
    log = np.log10(np.maximum(power, 1e-10))
    log = np.maximum(log, log.max() - 8)  # Whisper's floor: 80 dB below the loudest
    frames = log.shape[1]
    edges = np.linspace(0, frames, min(WIDTH, frames) + 1).astype(int)
    small = np.stack([log[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)], axis=1)
    span = float(small.max() - small.min())
    levels = np.rint((small - small.min()) / span * (LEVELS - 1)) if span else np.zeros_like(small)
    # Inferno gets lighter evenly: readable in print and by the colour-blind. A palette of few colours compresses well.
    image = Image.fromarray(levels[::-1].astype(np.uint8), mode="P")
    image.putpalette(colormaps["inferno"](np.linspace(0, 1, LEVELS), bytes=True)[:, :3].tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
