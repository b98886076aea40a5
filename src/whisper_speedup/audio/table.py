"""A user's table of recordings: a CSV, TSV or JSONL, with the separators and column names that people use."""

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisper_speedup.audio.clips import Clip, one_line, optional, reader
from whisper_speedup.audio.tally import Tally
from whisper_speedup.audio.texts import read_text
from whisper_speedup.errors import UserError, detail, shown

TABLES = {".csv", ".tsv", ".jsonl"}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# What pandas, Hugging Face's folders, Common Voice and NeMo call these columns.
_ALIASES = {
    **dict.fromkeys(
        ("audio", "file", "file_name", "filename", "path", "file_path", "filepath", "audio_path", "audio_file",
         "audio_filename", "audio_filepath", "wav", "recording"), "audio"),
    **dict.fromkeys(("text", "sentence", "transcript", "transcription", "reference"), "text"),
    **dict.fromkeys(("id", "utterance_id", "utt_id"), "id"),
    **dict.fromkeys(("speaker", "speaker_id"), "speaker"),
}  # fmt: skip
# What programs write into a CSV where there is nothing. JSON has null for that, so a word there stays a word.
NOTHING = {"NaN", "nan", "None", "NULL", "null", "<NA>"}
COLUMNS = "the columns are audio, text, id and speaker"


class Entry(BaseModel):
    """A line of the user's table. `audio` is relative to the table; `id` is `audio` without its suffix by default."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    audio: str = Field(min_length=1)
    text: str | None = None
    id: str | None = None
    speaker: str | None = None


def read_table(table: Path, tally: Tally) -> list[Clip]:
    """The recordings that `table` lists, in its order. Raises UserError naming the line."""
    clips = []
    for line, row in _csv(table, tally) if table.suffix.lower() != ".jsonl" else _jsonl(table):
        try:
            entry = Entry.model_validate(row)
        except ValidationError as error:
            raise UserError(f"{table}, line {line}: {_sentence(error)}") from None
        if "\0" in f"{entry.audio}{entry.text}{entry.id}{entry.speaker}":
            raise UserError(f"{table}, line {line}, holds NUL, which is no text: correct it.")
        path = _file(table.parent, entry.audio)
        if path is None:
            raise UserError(
                f"{table}, line {line}, names {shown(entry.audio)}, which is no file in {table.parent}/: correct it."
            )
        within = _within(path, table.parent)
        place = f"{one_line(within)} ({table.name}, line {line})"
        clips.append(Clip(optional(entry.id) or name(within), reader(path), optional(entry.text),
                          optional(entry.speaker), place))  # fmt: skip
    if not clips:
        raise UserError(f"{table} lists no clips: add a line for each, with audio and text.")
    return clips


def name(path: Path) -> str:
    """The path without its suffix. NFC, because file systems differ in how they spell an accent."""
    return unicodedata.normalize("NFC", one_line(path.with_suffix("").as_posix()))


def _within(path: Path, folder: Path) -> Path:
    """`path` as seen from `folder`; where it lies elsewhere its name alone, for folders elsewhere are a person's."""
    for base, other in ((os.path.abspath(folder), os.path.abspath(path)), (folder.resolve(), path.resolve())):
        if Path(other).is_relative_to(base):
            return Path(other).relative_to(base)
    return Path(path.name)


def _file(folder: Path, wanted: str) -> Path | None:
    """The file that a table names, in whichever way the file system spells its accents."""
    for spelling in dict.fromkeys((wanted, *(unicodedata.normalize(form, wanted) for form in ("NFC", "NFD")))):
        try:
            if spelling and (folder / spelling).is_file():
                return folder / spelling
        except (OSError, ValueError):  # a name too long for the file system, a directory without permission
            return None
    return None


def _jsonl(table: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row). NaN is what pandas writes for nothing."""
    for number, line in enumerate(read_text(table).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # 5000 digits or brackets are no JSONDecodeError
                raise UserError(f"{table}, line {number}, is not valid JSON ({detail(error)}): correct it.") from None
            if isinstance(row, dict):
                _, columns = _named(list(row), f"{table}, line {number}")
                given = zip(columns, row.values(), strict=True)
                row = {
                    key: value for key, value in given if not (isinstance(value, float) and not math.isfinite(value))
                }
            yield number, row


def _csv(table: Path, tally: Tally) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row); an empty cell counts as not given, and so does one that says NaN."""
    text = read_text(table)
    separator, skipped = _separator(text, table.parent)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    columns: list[str] | None = None
    try:
        for cells in lines:
            if lines.line_num <= skipped or not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns, is_row = _columns(cells, table, lines.line_num)
                if not is_row:
                    continue
                tally.remarks["lines without column names, taken as audio and text"] += 1
            if any(cell.strip() for cell in cells[len(columns) :]):
                what = _SEPARATORS[separator]
                raise UserError(f"{table}, line {lines.line_num}, has more cells than columns: quote its {what}.")
            given = {key: cell for key, cell in zip(columns, cells, strict=False) if cell.strip()}
            if given.get("", "").strip().isdigit():  # pandas' own numbers of the rows
                del given[""]
            row = {key: cell for key, cell in given.items() if cell.strip() not in NOTHING}
            if len(given) > len(row):
                tally.remarks["cells that say NaN, None or null taken as empty"] += len(given) - len(row)
            yield lines.line_num, row
    except csv.Error as error:
        raise UserError(f"{table}, line {lines.line_num}, is not valid CSV ({error}): correct it.") from None


def _separator(text: str, folder: Path) -> tuple[str, int]:
    """The separator under which the first line names most columns, or a file; and the lines before it ("sep=;")."""
    first = re.match(r"\s*sep=([,;\t|])[^\S\n]*\n", text)
    if first:
        return first[1], first[0].count("\n")
    header = next((line for line in text.split("\n") if line.strip()), "")

    def fit(separator: str) -> tuple[int, int]:
        cells = header.split(separator)
        return sum(_alias(cell.strip(' "')) is not None for cell in cells), len(cells) - (separator != ",")

    def names_file(separator: str) -> tuple[bool, int]:
        return any(_file(folder, cell.strip(' "')) for cell in header.split(separator)), header.count(separator)

    known = max(_SEPARATORS, key=fit)
    return (known if fit(known)[0] else max(_SEPARATORS, key=names_file)), 0


def _columns(cells: list[str], table: Path, line: int) -> tuple[list[str], bool]:
    """The columns' names, and whether the line is a row already: of a file, or of one and its text."""
    known, columns = _named([cell.strip() for cell in cells], f"{table}, line {line}", strict=False)
    if "audio" in known:
        return columns, False
    files = [_file(table.parent, cell) is not None for cell in cells]
    if sum(files) == 1 and len(files) <= 2 and not known:
        return ["audio" if is_file else "text" for is_file in files], True
    found = ", ".join(shown(cell) for cell in cells[:6])
    raise UserError(f"{table}, line {line}, has no column audio (it has {found}): {COLUMNS}, and line 1 names them.")


def _named(names: list[str], where: str, strict: bool = True) -> tuple[set[str], list[str]]:
    """Which of our columns there are, and each name as ours. Raises UserError for two of one, and for a stranger."""
    known: dict[str, str] = {}
    columns = []
    for given in names:
        ours = _alias(given)
        if ours in known:
            raise UserError(f"{where}: columns {shown(known[ours])} and {shown(given)} are both {ours}: remove one.")
        if ours is not None:
            known[ours] = given
        columns.append(given if ours is None else ours)
    strange = [given for given in names if given and _alias(given) is None]
    if strange and (strict or "audio" in known):
        raise UserError(f"{where}: unknown column {shown(strange[0])}: {COLUMNS}.")
    return set(known), columns


def _alias(given: str) -> str | None:
    return _ALIASES.get(re.sub(r"[\s-]+", "_", given.strip().casefold()))


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown column {shown(key)}: {COLUMNS}."
    if first["type"] == "missing":
        return f"no {key}: each line needs audio, and may have text, id and speaker."
    return f"{key or 'the line'}: {first['msg'][0].lower()}{first['msg'][1:]}: correct it."
