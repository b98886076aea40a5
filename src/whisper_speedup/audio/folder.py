"""A user's own recordings: a directory with .txt files beside the clips, or a CSV or JSONL that lists them."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisper_speedup.audio.clips import Clip, one_line, optional, reader
from whisper_speedup.errors import UserError, detail, shown
from whisper_speedup.source_params import Folder

# The second line cannot be decoded here; listed, so that the report says so in place of passing over them.
SUFFIXES = {
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"),
    *(".m4a", ".aac", ".wma", ".aiff", ".aif", ".amr", ".webm"),
}


MAX_TEXT_BYTES = 64 * 2**20


class Entry(BaseModel):
    """A line of the user's table. `audio` is relative to the table; `id` is `audio` without its suffix by default."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    audio: str = Field(min_length=1)
    text: str | None = None
    id: str | None = None
    speaker: str | None = None


def open_folder(data: Folder) -> list[Clip]:
    """The clips at `data.path`, sorted by path or in the table's order, the first `data.limit`. Raises UserError."""
    path = Path(data.path).expanduser()
    if path.is_dir():
        clips = _directory(path)
    elif path.is_file() and path.suffix.lower() in {".csv", ".jsonl"}:
        clips = _table(path)
    elif path.exists():
        raise UserError(f"{path} is neither a directory nor a .csv or .jsonl file: correct data.path in the profile.")
    else:
        raise UserError(f"{path} does not exist: correct data.path in the profile.")
    first: dict[str, Clip] = {}
    for clip in clips:
        if clip.id in first:
            both = f"{first[clip.id].place} and {clip.place} are both called {shown(clip.id)}"
            raise UserError(f"{both}: rename one, or list them in a CSV with ids.")
        first[clip.id] = clip
    return clips[: data.limit]


def _directory(root: Path) -> list[Clip]:
    files = sorted(
        (
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path, root)
        ),
        key=lambda path: path.relative_to(root).as_posix(),
    )
    if not files:
        raise UserError(f"{root} holds no audio (WAV, FLAC, MP3 or OGG): put recordings there or correct data.path.")
    clips = []
    for path in files:
        text = path.with_suffix(".txt")
        reference = optional(_text(text)) if text.is_file() else None
        clips.append(Clip(_name(path.relative_to(root)), reader(path), reference, None, one_line(path)))
    return clips


def _table(table: Path) -> list[Clip]:
    clips = []
    for line, row in _rows(table):
        try:
            entry = Entry.model_validate(row)
        except ValidationError as error:
            raise UserError(f"{table}, line {line}: {_sentence(error)}") from None
        path = table.parent / entry.audio
        if not _is_file(path):
            raise UserError(
                f"{table}, line {line}, names {shown(entry.audio)}, which is no file in {table.parent}/: correct it."
            )
        name = optional(entry.id) or _name(Path(entry.audio))
        place = f"{one_line(path)} ({table.name}, line {line})"
        clips.append(Clip(name, reader(path), optional(entry.text), optional(entry.speaker), place))
    if not clips:
        raise UserError(f"{table} lists no clips: add a line for each, with audio and text.")
    return clips


def _rows(table: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row) of a CSV or JSONL; an empty cell of a CSV counts as not given."""
    text = _text(table)
    if table.suffix.lower() == ".csv":
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in lines:
                if None in row:
                    raise UserError(f"{table}, line {lines.line_num}, has more cells than columns: quote its commas.")
                yield lines.line_num, {key.strip(): value for key, value in row.items() if value}
        except csv.Error as error:
            raise UserError(f"{table}, line {lines.line_num}, is not valid CSV ({error}): correct it.") from None
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # 5000 digits or brackets are no JSONDecodeError
                raise UserError(f"{table}, line {number}, is not valid JSON ({detail(error)}): correct it.") from None
            yield number, row


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise UserError(f"{path} is larger than {MAX_TEXT_BYTES // 2**20} MiB, which is no transcript: correct it.")
        return path.read_text(encoding="utf-8-sig")  # a byte-order mark is what spreadsheets put first
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): correct its permissions.") from None


def _name(path: Path) -> str:
    """The path without its suffix. NFC, because file systems differ in how they spell an accent."""
    return unicodedata.normalize("NFC", one_line(path.with_suffix("").as_posix()))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system, a directory without permission
        return False


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown column {shown(key)}: the columns are audio, text, id and speaker."
    if first["type"] == "missing":
        return f"no {key}: each line needs audio, and may have text, id and speaker."
    return f"{key or 'the line'}: {first['msg'][0].lower()}{first['msg'][1:]}: correct it."
