"""The real recordings that ship in samples/."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from whisper_speedup.audio.clips import Clip, reader
from whisper_speedup.audio.tally import Tally
from whisper_speedup.disk.files import read_jsonl, sha256
from whisper_speedup.errors import UserError
from whisper_speedup.params.sources import Samples

SAMPLES = Path("samples")


class Transcript(BaseModel):
    """A line of samples/transcripts.jsonl; `sha256` is that of ID.flac."""

    model_config = ConfigDict(extra="forbid")
    id: str
    text: str
    speaker: str | None
    sha256: str


def open_samples(data: Samples, folder: Path = SAMPLES, tally: Tally | None = None) -> list[Clip]:
    """The clips of `samples/`, or those that the profile names, in the order of transcripts.jsonl. Raises UserError."""
    listing = folder / "transcripts.jsonl"
    if not listing.is_file():
        raise UserError(f"{listing} does not exist: run from the repository's root, or restore it with git.")
    transcripts = []
    for number, row in enumerate(read_jsonl(listing), 1):
        try:
            transcripts.append(Transcript.model_validate(row))
        except ValidationError:
            raise UserError(f"{listing}, entry {number}, is not a transcript: restore the file with git.") from None
    known = [transcript.id for transcript in transcripts]
    if tally is not None:
        tally.held = len(known)
    for wanted in data.clips or []:
        if wanted not in known:
            raise UserError(f"data.clips names {wanted!r}, which is no sample: choose from {', '.join(known)}.")
    return [_clip(t, folder) for t in transcripts if data.clips is None or t.id in data.clips]


def _clip(transcript: Transcript, folder: Path) -> Clip:
    path = folder / f"{transcript.id}.flac"
    if not path.is_file() or sha256(path) != transcript.sha256:
        raise UserError(f"{path} is missing or not the recording that shipped: restore it with git.")
    return Clip(transcript.id, reader(path), transcript.text, transcript.speaker, str(path))
