"""Anything that libsndfile reads to what Whisper takes: mono, 16 kHz, at most 30 s."""

import io
import warnings
from dataclasses import dataclass, replace

import numpy as np
import soundfile

from whisper_speedup.audio.clips import MAX_BYTES, Stream
from whisper_speedup.audio.clips import AudioError as AudioError
from whisper_speedup.audio.numba_cache import import_librosa
from whisper_speedup.audio.row import SAMPLING_RATE, WINDOW_S
from whisper_speedup.audio.streams import split
from whisper_speedup.audio.truncation import truncation

MAX_LENGTH_S = 4 * 3600
RATES = range(4_000, 384_001)
MAX_CHANNELS = 32
BLOCK = 2**20  # samples, all channels counted, that are decoded at a time
UNKNOWN = 2**63 - 1  # libsndfile's count for a FLAC that was written to a pipe; it cannot read those to their end


@dataclass(frozen=True)
class Waveform:
    """`samples` (n,) float32 at 16 kHz, n <= 480000. `cut_from_s`: the length before the cut to 30 s, None without.

    `note`: what was odd about the file and was put right, the end of a sentence that starts with the clip.
    """

    samples: np.ndarray
    cut_from_s: float | None
    note: str | None = None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLING_RATE


def decode(data: bytes) -> Waveform:
    """Decode a whole file. Channels are averaged, other rates resampled. Raises AudioError."""
    if not data:
        raise AudioError("is an empty file: replace it")
    if len(data) > MAX_BYTES:
        raise AudioError("is larger than 1 GiB: split it into utterances")
    streams = split(data)
    kept: list[np.ndarray] = []
    lengths: list[float] = []
    for number, stream in enumerate(streams, 1):
        try:
            samples, rate, frames = _read(stream)
        except AudioError as error:
            if len(streams) == 1:
                raise
            raise AudioError(f"holds {len(streams)} recordings, of which number {number} {error}") from None
        if sum(lengths) <= WINDOW_S:
            kept.append(samples if rate == SAMPLING_RATE else resample(samples, rate, SAMPLING_RATE))
        lengths.append(frames / rate)
        if sum(lengths) > MAX_LENGTH_S:
            raise AudioError(f"is longer than {_hours()}: split it into utterances")
    waveform = window(np.concatenate(kept) if len(kept) > 1 else kept[0], sum(lengths))
    return replace(waveform, note=_note(streams, lengths))


def _note(streams: list[Stream], lengths: list[float]) -> str | None:
    notes = list(dict.fromkeys(stream.note for stream in streams if stream.note))
    if len(streams) > 1:
        each = ", ".join(f"{seconds:.1f} s" for seconds in lengths[:5]) + (", ..." if len(lengths) > 5 else "")
        notes.insert(0, f"holds {len(streams)} recordings one after another ({each}): they were joined")
    return "; ".join(notes) or None


def window(samples: np.ndarray, length_s: float) -> Waveform:
    """The first 30 s of `samples` (n,) at 16 kHz, which come from a recording of `length_s`."""
    limit = WINDOW_S * SAMPLING_RATE
    cut = length_s > WINDOW_S
    return Waveform(np.ascontiguousarray(samples[:limit], dtype=np.float32), round(length_s, 6) if cut else None)


def resample(samples: np.ndarray, source: float, target: float) -> np.ndarray:
    """`samples` (n,) from `source` Hz to `target` Hz, float32 (librosa, soxr high quality)."""
    librosa = import_librosa()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns of clips that are shorter than a filter
        return librosa.resample(samples, orig_sr=source, target_sr=target, res_type="soxr_hq").astype(np.float32)


def _read(stream: Stream) -> tuple[np.ndarray, int, int]:
    """Mono float32 of the first 31 s at the file's own rate, that rate, and the number of frames in all.

    The rest is decoded too, and thrown away, so that a file damaged further on is refused.
    """
    data = stream.data
    try:
        file = soundfile.SoundFile(_Memory(data))
    except soundfile.SoundFileError as error:
        what = "replace it, or convert it with ffmpeg -i IN OUT.wav"
        raise AudioError(f"cannot be read as audio ({_reason(error)}): {what}") from None
    _check_header(file)
    keep = (WINDOW_S + 1) * file.samplerate  # a second more, so that resampling does not see the cut
    kept: list[np.ndarray] = []
    frames = 0
    try:
        with file:
            while len(block := file.read(BLOCK // file.channels, dtype="float32", always_2d=True)):
                if frames > MAX_LENGTH_S * file.samplerate:
                    raise AudioError(f"is longer than its header says and than {_hours()}: split it into utterances")
                if not np.isfinite(block).all():
                    raise AudioError("holds NaN or infinite samples: convert it again from the original")
                if frames < keep:
                    kept.append(block.mean(axis=1, dtype=np.float32))
                frames += len(block)
    except soundfile.SoundFileError as error:
        raise AudioError(f"is truncated or damaged ({_reason(error)}): copy it again from the original") from None
    if reason := truncation(data, file.format, file.frames, frames):
        raise AudioError(f"is truncated ({reason}): copy it again from the original")
    if frames < stream.least:
        raise AudioError(f"is damaged (of {stream.least} frames or more, {frames} decode): copy it again")
    if not frames:
        raise AudioError("holds no samples: replace it")
    return np.concatenate(kept)[:keep], file.samplerate, frames


def _check_header(file: soundfile.SoundFile) -> None:
    """Refuse a header that cannot be right before anything is decoded."""
    if file.samplerate not in RATES:
        raise AudioError(f"claims {file.samplerate} samples a second, a broken header: convert it to 16 kHz")
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"claims {file.channels} channels, a broken header: convert it to mono")
    if file.frames == UNKNOWN:
        raise AudioError("does not say how long it is: convert it to a file, not through a pipe")
    if file.frames > MAX_LENGTH_S * file.samplerate:
        hours = file.frames / file.samplerate / 3600
        raise AudioError(f"claims {hours:.1f} hours, more than {_hours()}: split it into utterances")


def _hours() -> str:
    return f"{MAX_LENGTH_S // 3600} hours"


def _reason(error: soundfile.SoundFileError) -> str:
    """libsndfile's own words, without our nameless buffer."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    if "does not exist" in text:  # what it says of an MP3 with less than one frame
        return "no whole frame"
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".").replace(": ", ", ")


class _Memory(io.BytesIO):
    """Bytes as a file. libsndfile seeks to before the start of some broken files; BytesIO would print a traceback."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().tell()
