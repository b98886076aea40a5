"""model.json: which weights a run used, and where they came from."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from pydantic import Field, field_validator

from whisper_speedup.disk.records import Record, read_record

WEIGHTS = (".safetensors", ".bin")


class FileRecord(Record):
    """A file of a checkpoint."""

    name: str
    bytes: int
    sha256: str


class Checkpoint(Record):
    """model.json. `path` is the Hugging Face folder, on the machine that wrote it."""

    source: str
    name: str
    revision: str | None
    path: str
    trained: bool
    parameters: int = 0
    files: list[FileRecord] = Field(min_length=1)

    @field_validator("files")
    @classmethod
    def _with_weights(cls, files: list[FileRecord]) -> list[FileRecord]:
        if not any(file.name.endswith(WEIGHTS) for file in files):
            raise ValueError("there are no weights")
        return files

    @property
    def weights_sha256(self) -> str:
        """Of the files with weights, one or many."""
        return files_sha256(file for file in self.files if file.name.endswith(WEIGHTS))

    @property
    def model_sha256(self) -> str:
        """Of all files: weights, configurations, tokenizer."""
        return files_sha256(self.files)


def files_sha256(files: Iterable[FileRecord]) -> str:
    """One SHA-256 over names and hashes."""
    return sha256("\n".join(sorted(f"{file.name} {file.sha256}" for file in files)).encode()).hexdigest()


def read_checkpoint(model_json: Path) -> Checkpoint:
    """What the model stage wrote. Raises UserError."""
    return read_record(Checkpoint, model_json)
