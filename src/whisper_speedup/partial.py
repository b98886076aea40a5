"""The rows of a run that is under way, on disk one by one, so that a run that ends early loses none of them.

A JSON object a line. The first is a header with the `key`: all that the rows depend on. Each process that works on the
run then adds a line {"session": ...} and a line for each row. A run is continued by a process with the same key; after
a power cut the last line may be torn, and is dropped.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from whisper_speedup import device, storage
from whisper_speedup.errors import UserError
from whisper_speedup.files import sync_folder

FORMAT = 2  # of the header, the sessions and the rows


class Partial:
    """The file `path`, continued where it has this `key`, else begun anew. `ids`: the utterances there will be.

    `rows`: the rows there are, by id. A row with an error is not taken over from an earlier process: what made it may
    have been mended. `session`: what to remember of this process. `resumed_from`: the earlier ones' `session`, each
    with `rows`, the number of rows that it made; None when there was none.
    The file is beside DVC's outputs and not in them, for DVC deletes those before a stage runs.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], ids: Collection[str], session: Mapping[str, Any]) -> None:
        self.path, self.total = path, len(ids)
        self.rows: dict[str, dict[str, Any]] = {}
        self.resumed_from: list[dict[str, Any]] | None = None
        header = {"format": FORMAT, "key": json.loads(_line(key)), "total": self.total}
        path.parent.mkdir(parents=True, exist_ok=True)
        entries, size = _read(path)
        continues = bool(entries) and entries[0] == header
        if continues:
            self._take_over(entries[1:], set(ids))
        elif any("id" in entry for entry in entries[1:]):
            self._set_aside(entries[0], header)
        new = 0 if continues else os.O_TRUNC
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | new, 0o666)
        if continues:
            os.ftruncate(self.file, size)
        self._write(*([] if continues else [header]), {"session": session})
        sync_folder(path.parent)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row. It is on the disk when this returns, whole: no signal, crash or power cut can halve it."""
        self._write(row)
        self.rows[row["id"]] = dict(row)

    def remove(self) -> None:
        """Delete the closed file: its rows have reached the run's own folder."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: another engine's rows are in it
            self.path.parent.rmdir()

    def close(self) -> None:
        """Close the file and leave it where it is."""
        os.close(self.file)

    def said(self) -> str:
        """How much is kept, as the end of a sentence."""
        return (
            f"{len(self.rows)} of {self.total} utterances are kept in {self.path}, and running again goes on from there"
        )

    def _take_over(self, entries: list[dict[str, Any]], ids: set[str]) -> None:
        session: Any = {}
        makers: dict[str, int] = {}
        sessions: list[dict[str, Any]] = []
        for entry in entries:
            if "session" in entry:
                session = entry["session"]
                sessions.append(dict(session))
            elif entry["id"] in ids and sessions:
                self.rows[entry["id"]] = entry
                makers[entry["id"]] = len(sessions) - 1
        self.rows = {name: row for name, row in self.rows.items() if row["error"] is None}
        counts = [0] * len(sessions)
        for name in self.rows:
            counts[makers[name]] += 1
        self.resumed_from = [{"rows": n, **s} for n, s in zip(counts, sessions, strict=True) if n] or None
        if self.rows:
            print(f"going on: {len(self.rows)} of {self.total} utterances are kept in {self.path}", file=sys.stderr)

    def _set_aside(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Rows that were made with something else are of no use here, and yet may have taken hours."""
        aside = self.path.with_name(f"{self.path.stem}.aside{self.path.suffix}")
        ours, theirs = header["key"], found.get("key")
        theirs = theirs if isinstance(theirs, dict) else {}
        what = ", ".join(name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)) or "format"
        print(
            f"{self.path} was made with something else ({what}): kept as {aside.name}, and begun anew", file=sys.stderr
        )
        os.replace(self.path, aside)

    def _write(self, *values: Mapping[str, Any]) -> None:
        data = b"".join(_line(value) for value in values)
        size = os.fstat(self.file).st_size
        try:
            while data:  # one write, unless the disk is nearly full
                data = data[os.write(self.file, data) :]
            os.fdatasync(self.file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self.file, size)  # half a line, on a disk that became full
            error.filename = str(self.path)
            raise


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The file's entries up to the first line that is not whole, and how many bytes those take. None: no header."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    entries: list[dict[str, Any]] = []
    size = 0
    for line in content.split(b"\n")[:-1]:  # what follows the last line break is torn, or nothing
        try:
            entry = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            break
        if not isinstance(entry, dict) or not _known(entry, first=not entries):
            break
        entries.append(entry)
        size += len(line) + 1
    if entries and size < len(content):
        print(f"{path} ends in a line that is not whole ({len(content) - size} bytes): dropped", file=sys.stderr)
    return entries, size


def _known(entry: dict[str, Any], first: bool) -> bool:
    """Whether a line is a header, a session or a row."""
    if first:
        return "format" in entry
    if "session" in entry:
        return isinstance(entry["session"], dict)
    return isinstance(entry.get("id"), str) and "error" in entry


@contextmanager
def one_sentence(partial: Partial | None = None) -> Iterator[None]:
    """Turn what ends a run early into one sentence that also says which rows are kept.

    A UserError and a failure of the GPU, the memory or the disk leave as UserError; KeyboardInterrupt leaves as itself,
    with the sentence as its message. Any other error is a bug and leaves as it is, with a note.
    """
    kept = partial.said if partial is not None else None
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = (kept() + ".",) if kept else ()
        raise
    except Exception as error:
        sentence = _sentence(error)
        if sentence is not None:
            raise UserError(f"{sentence.removesuffix('.')}; {kept()}." if kept else sentence) from None
        if kept:
            error.add_note(kept())
        raise
    finally:
        if partial is not None:
            partial.close()


def _sentence(error: Exception) -> str | None:
    if isinstance(error, UserError):
        return str(error)
    return storage.failure(error) if isinstance(error, OSError) else device.failure(error)
