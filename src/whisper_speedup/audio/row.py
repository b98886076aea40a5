"""One utterance, as the manifest has it. Whoever only reads it needs none of the libraries for audio."""

from collections import Counter
from pathlib import Path

from pydantic import ConfigDict, Field, model_validator

from whisper_speedup.disk.records import Record, read_records
from whisper_speedup.errors import UserError, shown

SAMPLING_RATE = 16_000
WINDOW_S = 30  # Whisper's encoder sees 30 s and no more


class Row(Record):
    """One utterance. `audio` is relative to the manifest; it and `sha256` are null, and `duration_s` 0, with `error`.

    `cut_from_s` is the recording's length when it was over 30 s and cut, as Whisper does. `note`: what was odd about
    the file and was put right; a row without one is written without the key, as rows were before there were notes.
    """

    model_config = ConfigDict(strict=True)

    id: str = Field(min_length=1)
    audio: str | None = Field(pattern=r"^audio/[A-Za-z0-9_-][A-Za-z0-9._-]*\.flac$")
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    duration_s: float = Field(ge=0, le=WINDOW_S)
    sampling_rate: int = Field(ge=SAMPLING_RATE, le=SAMPLING_RATE)
    reference: str | None
    speaker: str | None
    cut_from_s: float | None
    error: str | None
    note: str | None = None

    @model_validator(mode="after")
    def _audio_or_error(self) -> "Row":
        if (self.audio is None) != (self.error is not None) or (self.sha256 is None) != (self.audio is None):
            raise ValueError("needs either audio and sha256, or an error")
        return self


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest. Raises UserError, naming the line, when one is not what the data stage writes.

    index.py reads a manifest of any length row by row.
    """
    rows = read_records(Row, path)
    name, count = Counter(row.id for row in rows).most_common(1)[0] if rows else ("", 0)
    if count > 1:
        raise UserError(f"{path} has {count} rows with the id {shown(name)}: delete it and run dvc repro.")
    return rows
