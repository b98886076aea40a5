"""Read and write the small files that stages exchange: JSON and JSON lines, whole or not at all."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from whisper_speedup.errors import UserError, detail


def write_text(path: Path, text: str) -> None:
    """Write `text` to a temporary name beside `path` and rename it, so that a reader never sees half a file.

    The bytes are on the disk before the new name is: after a power cut there is the old file or the whole new one.
    """
    write_bytes(path, [text.encode("utf-8")])


def write_bytes(path: Path, pieces: Iterable[bytes]) -> None:
    """The same for bytes that come piece by piece, so that a large file is never in memory as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # a write that fails does not say of which file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk too, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_leftovers(path: Path) -> None:
    """Delete the temporary files for `path` whose process was killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        owner = left.name.removesuffix(".tmp").rpartition(".")[2]
        if owner.isdigit() and int(owner) != os.getpid() and not psutil.pid_exists(int(owner)):
            left.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline: same value, same bytes. NaN is refused (not JSON)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, keys in the order given."""
    write_bytes(path, ((json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8") for row in rows))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it (dvc repro).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({detail(error)}): delete it and run dvc repro.") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file, blank lines left out. Raises UserError naming the line that is no JSON object."""
    return [row for _, row in iter_jsonl(path)]


def iter_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same one by one, each with the byte at which its line begins. Raises UserError when it gets there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it (dvc repro).") from None
    begin = 0
    with file:
        # Not splitlines(): JSON leaves U+2028 and U+0085 unescaped inside strings.
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is not UTF-8 text ({error}): delete it and run dvc repro.") from None
            if text.strip():
                yield begin, parsed(text, path, number)
            begin += len(line)


def parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    """One line of a JSON-lines file, the `number`th of `path`. Raises UserError."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # 5000 digits or brackets are no JSONDecodeError
        raise UserError(
            f"{path}, line {number}, is not valid JSON ({detail(error)}): delete it and run dvc repro."
        ) from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}, is no JSON object: delete it and run dvc repro.")
    return row


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
