"""The data stage: any source of speech becomes one folder of FLACs and a manifest.jsonl."""

import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from whisper_speedup.audio.clips import Clip
from whisper_speedup.audio.decode import AudioError, Waveform, decode
from whisper_speedup.audio.folder import open_folder
from whisper_speedup.audio.librispeech import open_librispeech
from whisper_speedup.audio.row import SAMPLING_RATE, WINDOW_S, Row
from whisper_speedup.audio.samples import open_samples
from whisper_speedup.audio.tally import Tally
from whisper_speedup.audio.variations import vary
from whisper_speedup.disk.files import write_jsonl
from whisper_speedup.disk.progress import track
from whisper_speedup.errors import UserError, readable, say, shown
from whisper_speedup.params.sources import Folder, LibriSpeech, Samples

MANIFEST = "manifest.jsonl"


def prepare(data: Samples | LibriSpeech | Folder, folder: Path) -> list[Row]:
    """Write `folder`/manifest.jsonl and `folder`/audio/*.flac (16 kHz, mono, 16-bit), replacing what was there.

    Same source, same bytes. A clip that cannot be decoded keeps its row, with the error. Raises UserError when the
    source is unusable or no clip can be decoded; then `folder` is left as it was.
    """
    tally = Tally()
    clips = _open(data, tally)
    fresh = folder.with_name(f".{folder.name}.tmp")  # one name, so that a killed run's remains go at the next
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "audio").mkdir(parents=True)
    try:
        rows = [row for clip in track(clips, "decoding audio", "clip") for row in _write(clip, data, fresh)]
        _check(rows, clips)
        write_jsonl(fresh / MANIFEST, (row.model_dump(exclude=None if row.note else {"note"}) for row in rows))
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    # A clip's variations share its note; those that cannot be read have one row.
    noted = len({row.note for row in rows if row.note})
    say(tally.line(clips, sum(row.error is not None for row in rows), noted))
    return rows


def load_audio(manifest: Path, row: Row) -> np.ndarray:
    """The utterance's samples (n,), float32 at 16 kHz. Raises UserError when the file is not what the row describes."""
    return samples_of(read_audio(manifest, row), manifest, row)


def read_audio(manifest: Path, row: Row) -> bytes:
    """The content of the utterance's file, unchecked. Raises UserError when there is none."""
    if row.audio is None:
        raise UserError(f"{row.id} has no audio: {row.error}")
    path = manifest.parent / row.audio
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: delete {manifest.parent} and run dvc repro.") from None


def samples_of(content: bytes, manifest: Path, row: Row) -> np.ndarray:
    """What `load_audio` gives, of a file's content that came another way. Raises UserError."""
    path = manifest.parent / (row.audio or "")
    if sha256(content).hexdigest() != row.sha256:
        raise UserError(f"{path} has another SHA-256 than {manifest} says: delete {manifest.parent} and run dvc repro.")
    try:
        with soundfile.SoundFile(BytesIO(content)) as file:
            shape = file.samplerate, file.channels, file.frames <= WINDOW_S * SAMPLING_RATE
            samples = file.read(dtype="float32") if shape == (SAMPLING_RATE, 1, True) else None
    except soundfile.SoundFileError:
        samples = None
    if samples is None:
        raise UserError(f"{path} is not 16 kHz mono of at most 30 s: delete {manifest.parent} and run dvc repro.")
    return samples


def to_flac(samples: np.ndarray) -> bytes:
    """`samples` (n,) float32 as 16-bit FLAC at 16 kHz. What is 16-bit already stays the same bit for bit.

    A clip louder than full scale (noise was added, or its float samples say so) is turned down, never clipped.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    # soundfile would multiply by 32767, and so move samples that were divided by 32768.
    pcm = np.rint(samples / max(peak, 1.0) * 32768).clip(-32768, 32767).astype(np.int16)
    buffer = BytesIO()
    soundfile.write(buffer, pcm, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _open(data: Samples | LibriSpeech | Folder, tally: Tally) -> list[Clip]:
    if isinstance(data, Samples):
        return open_samples(data, tally=tally)
    return open_librispeech(data, tally) if isinstance(data, LibriSpeech) else open_folder(data, tally)


def _write(clip: Clip, data: Samples | LibriSpeech | Folder, folder: Path) -> Iterator[Row]:
    """Decode one clip, write it and its variations, and yield their rows."""
    try:
        waveform = decode(clip.read())
    except (AudioError, OSError) as error:
        why = str(error)
        if isinstance(error, OSError):
            todo = "it is a link to nothing" if isinstance(error, FileNotFoundError) else "correct its permissions"
            why = f"cannot be read ({error.strerror}): {todo}"
        yield _row(clip.id, clip, error=readable(f"{clip.place} {why}."))
        return
    for name, varied in vary(clip.id, waveform, data.variations):
        content = to_flac(varied.samples)
        audio = f"audio/{_file_name(name)}"
        (folder / audio).write_bytes(content)
        note = readable(f"{clip.place} {waveform.note}.") if waveform.note else None
        yield _row(name, clip, audio=audio, sha256=sha256(content).hexdigest(), waveform=varied, note=note)


def _row(
    name: str,
    clip: Clip,
    audio: str | None = None,
    sha256: str | None = None,
    waveform: Waveform | None = None,
    error: str | None = None,
    note: str | None = None,
) -> Row:
    return Row(
        id=name,
        audio=audio,
        sha256=sha256,
        duration_s=round(waveform.duration_s, 6) if waveform else 0.0,
        sampling_rate=SAMPLING_RATE,
        reference=clip.reference,
        speaker=clip.speaker,
        cut_from_s=waveform.cut_from_s if waveform else None,
        error=error,
        note=note,
    )


def _check(rows: list[Row], clips: list[Clip]) -> None:
    """Refuse a manifest that could not be used: two rows of one name, or no audio at all."""
    name, count = Counter(row.id for row in rows).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{count} utterances are called {shown(name)}: give each clip, and each variation, a name of its own."
        )
    if all(row.error for row in rows):
        raise UserError(f"none of the {len(clips)} clips can be decoded, the first because {rows[0].error}")


def _replace(folder: Path, fresh: Path) -> None:
    """Put `fresh` in `folder`'s place; what was there is deleted last."""
    old = folder.with_name(f".{folder.name}.old.tmp")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _file_name(name: str) -> str:
    """A file name that any file system takes and that no id can choose: readable start, then a hash of the whole id."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", ascii_name).strip("-.")[:60]
    return f"{slug or 'clip'}-{sha256(name.encode()).hexdigest()[:12]}.flac"
