"""A manifest that is read as it is needed: 28 bytes an utterance are kept, however long its rows are."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from whisper_speedup.audio.row import Row
from whisper_speedup.disk.files import iter_jsonl, parsed
from whisper_speedup.disk.names import Names
from whisper_speedup.disk.records import checked
from whisper_speedup.errors import UserError, shown


class Index:
    """The rows of the manifest `path` by number, from 0. All are checked once, then read from the file again.

    `names`: which number an id has. Raises UserError, naming the row, as read_manifest does. May be read by several
    threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begins, self._durations = array("q"), array("f")
        self._readable = bytearray()
        self.names = Names(self._check())
        twice = self.names.twice()
        if twice is not None:
            name = self[twice].id
            count = sum(row.id == name for row in self)
            raise UserError(f"{path} has {count} rows with the id {shown(name)}: delete it and run dvc repro.")

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, number: int) -> Row:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return next(self.rows([number]))

    def __iter__(self) -> Iterator[Row]:
        return self.rows(range(len(self)))

    def rows(self, numbers: "array[int] | list[int] | range") -> Iterator[Row]:
        """The rows with these numbers, in their order."""
        with self.path.open("rb") as file:
            for number in numbers:
                file.seek(self._begins[number])
                line = file.readline().decode("utf-8")
                yield checked(Row, parsed(line, self.path, number + 1), self.path, number + 1)

    def readable(self) -> Iterator[Row]:
        """The rows that have audio, in order."""
        return self.rows(array("q", (number for number, audio in enumerate(self._readable) if audio)))

    def longest_first(self) -> "array[int]":
        """All numbers, by falling duration; equal ones in their order."""
        return array("q", np.argsort(-np.frombuffer(self._durations, dtype=np.float32), kind="stable").tolist())

    def _check(self) -> Iterator[str]:
        for number, (begin, content) in enumerate(iter_jsonl(self.path), 1):
            row = checked(Row, content, self.path, number)
            self._begins.append(begin)
            self._durations.append(row.duration_s)
            self._readable.append(row.error is None)
            yield row.id
