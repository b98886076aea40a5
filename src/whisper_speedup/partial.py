"""The rows of a run that is under way, on disk one by one, so that a run that ends early loses none of them.

The first line is a header that says what the rows were made with; resuming a run will compare it (`key`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whisper_speedup import device
from whisper_speedup.errors import UserError

FORMAT = 1  # of the header and the rows


class Partial:
    """The file `path`, begun anew: a header with `key`, then each row as it comes. `total`: how many there will be.

    Beside DVC's outputs and not in them, for DVC deletes those before a stage runs.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], total: int) -> None:
        self.path, self.total, self.kept = path, total, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        self._write({"format": FORMAT, "key": key, "total": total})

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row. It is with the system when this returns, whole: a signal or a crash of ours cannot halve it."""
        self._write(row)
        self.kept += 1

    def remove(self) -> None:
        """Delete the closed file: its rows have reached the run's own folder."""
        self.path.unlink(missing_ok=True)
        if not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def close(self) -> None:
        """Close the file and leave it where it is."""
        os.close(self.file)

    def said(self) -> str:
        """How much is kept, as the end of a sentence."""
        return f"{self.kept} of {self.total} utterances are kept in {self.path}"

    def _write(self, value: Mapping[str, Any]) -> None:
        line = (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
        while line:  # one write, unless the disk is nearly full
            line = line[os.write(self.file, line) :]


@contextmanager
def one_sentence(partial: Partial | None = None) -> Iterator[None]:
    """Turn what ends a run early into one sentence that also says which rows are kept.

    A UserError and a failure of the GPU leave as UserError; KeyboardInterrupt leaves as itself, with the sentence as
    its message. Any other error is a bug and leaves as it is, with a note.
    """
    kept = partial.said if partial is not None else None
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = (kept() + ".",) if kept else ()
        raise
    except Exception as error:
        sentence = str(error) if isinstance(error, UserError) else device.failure(error)
        if sentence is not None:
            raise UserError(f"{sentence.removesuffix('.')}; {kept()}." if kept else sentence) from None
        if kept:
            error.add_note(kept())
        raise
    finally:
        if partial is not None:
            partial.close()
