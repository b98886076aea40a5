"""The rows of a run that is under way, on disk one by one, so that a run that ends early loses none of them.

A JSON object a line. The first is a header with the `key`: all that the rows depend on. Each process that works on the
run then adds a line {"session": ...} and a line for each row. A run is continued by a process with the same key; after
a power cut the last line may be torn, and is dropped. In memory there is where a row's line begins, and no row.
"""

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from whisper_speedup.disk import storage
from whisper_speedup.disk.files import sync_folder
from whisper_speedup.disk.names import Names
from whisper_speedup.disk.records import Facts
from whisper_speedup.errors import UserError, say
from whisper_speedup.measure import device
from whisper_speedup.run.rows import PartialKey, Result, Session

FORMAT = 2  # of the header, the sessions and the rows


class Header(BaseModel):
    """The first line."""

    format: int
    key: Facts
    total: int = 0


class Opened(BaseModel):
    """A process begins."""

    session: Session


class Kept(BaseModel):
    """A result, as far as going on needs it."""

    id: str
    error: str | None


Entry = Header | Opened | Kept
ENTRY = TypeAdapter[Entry](Entry)


class Partial:
    """The file `path`, continued where it has this `key`, else begun anew. `ids`: the utterances there will be.

    A row with an error is not taken over from an earlier process: what made it may have been mended. `session`: what to
    remember of this process. `resumed_from`: the earlier ones' `session`, each with `rows`, the number of rows that it
    made; None when there was none.
    The file is beside DVC's outputs and not in them, for DVC deletes those before a stage runs.
    """

    def __init__(self, path: Path, key: PartialKey, ids: Names, session: Session) -> None:
        self.path, self.ids, self.total = path, ids, len(ids)
        self.count = 0  # of rows
        self.resumed_from: list[Session] | None = None
        self._begins = array("q", [-1]) * self.total  # of each utterance's line; -1: there is none
        header = Header(format=FORMAT, key=key.content(), total=self.total)
        path.parent.mkdir(parents=True, exist_ok=True)
        size, continues = self._take_over(header)
        new = 0 if continues else os.O_TRUNC
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | new, 0o666)
        if continues:
            os.ftruncate(self.file, size)
        self._write([*([] if continues else [_line(header.model_dump())]), _line({"session": session.content()})])
        sync_folder(path.parent)

    def extend(self, rows: Sequence[Result]) -> None:
        """Add rows, all flushed at once. They are on the disk when this returns, whole: no signal, crash or power cut
        can halve one. When the disk is full none of them is added."""
        lines = [_line(row.model_dump()) for row in rows]
        begin = self._write(lines)
        for row, line in zip(rows, lines, strict=True):
            place = self.ids.find(row.id)
            assert place is not None, f"{row.id} is none of this run's utterances"
            self.count += self._begins[place] < 0
            self._begins[place] = begin
            begin += len(line)

    def has(self, place: int) -> bool:
        """Whether there is a row for the utterance with this number in `ids`."""
        return self._begins[place] >= 0

    def lines(self) -> Iterator[bytes]:
        """The rows' lines as they are in the file, in the order of `ids`."""
        with self.path.open("rb") as file:
            for begin in self._begins:
                if begin >= 0:
                    file.seek(begin)
                    yield file.readline()

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
        return f"{self.count} of {self.total} utterances are kept in {self.path}, and running again goes on from there"

    def _take_over(self, header: Header) -> tuple[int, bool]:
        """Where what is whole in the file ends, and whether it goes on."""
        entries = _read(self.path)
        size, found = next(entries, (0, None))
        if not isinstance(found, Header):
            return 0, False
        if found != header:
            self._set_aside_what_has_rows(found, header)
            return 0, False
        sessions: list[Session] = []
        makers = array("i", [-1]) * self.total  # the session that made a row
        begin = size
        for size, entry in entries:
            if isinstance(entry, Opened):
                sessions.append(entry.session)
            elif isinstance(entry, Kept) and sessions and (place := self.ids.find(entry.id)) is not None:
                whole = entry.error is None
                self._begins[place] = begin if whole else -1
                makers[place] = len(sessions) - 1 if whole else -1
            begin = size
        counts = [0] * len(sessions)
        for maker in makers:
            if maker >= 0:
                counts[maker] += 1
        self.count = sum(counts)
        self.resumed_from = [s.but(rows=n) for n, s in zip(counts, sessions, strict=True) if n] or None
        if self.count:
            say(f"going on: {self.count} of {self.total} utterances are kept in {self.path}")
        return size, True

    def _set_aside_what_has_rows(self, found: Header, header: Header) -> None:
        """Rows that were made with something else are of no use here, and yet may have taken hours."""
        if not any(isinstance(entry, Kept) for _, entry in _read(self.path)):
            return
        aside = self.path.with_name(f"{self.path.stem}.aside{self.path.suffix}")
        ours, theirs = header.key, found.key
        what = ", ".join(name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)) or "format"
        say(f"{self.path} was made with something else ({what}): kept as {aside.name}, and begun anew")
        os.replace(self.path, aside)

    def _write(self, lines: Sequence[bytes]) -> int:
        """Where the first of the lines begins."""
        data = b"".join(lines)
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
        return size


def _line(value: Facts) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(path: Path) -> Iterator[tuple[int, Entry]]:
    """The file's entries up to the first line that is not whole, each with the byte at which it ends."""
    if not path.exists():
        return
    size = 0
    with path.open("rb") as file:
        for line in file:
            entry = _entry(line, first=size == 0)
            if entry is None:
                break
            size += len(line)
            yield size, entry
        whole = os.fstat(file.fileno()).st_size
    if 0 < size < whole:
        say(f"{path} ends in a line that is not whole ({whole - size} bytes): dropped")


def _entry(line: bytes, first: bool) -> Entry | None:
    """A header, and behind it sessions and rows; None for what is torn or anything else."""
    try:
        # pydantic's own parser refuses the escaped halves of surrogates that names of files can hold.
        entry = ENTRY.validate_python(json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):  # of which ValidationError is one
        return None
    return entry if isinstance(entry, Header) == first else None


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
