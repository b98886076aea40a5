"""One recording as a source hands it over, not decoded yet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from whisper_speedup.errors import readable

MAX_BYTES = 2**30


@dataclass(frozen=True)
class Clip:
    """`read` gives the file's bytes; called when the clip's turn comes, so none is kept.

    `reference` is the true transcript, None when there is none. `place` is what an error calls the clip: its path in
    the source (a report publishes errors, and the folders above are a person's), or its id in a dataset.
    """

    id: str
    read: Callable[[], bytes]
    reference: str | None
    speaker: str | None
    place: str


class AudioError(Exception):
    """Why these bytes are not usable speech, and what to do: the end of a sentence that starts with the clip."""

    def __init__(self, reason: str) -> None:
        super().__init__(readable(reason))


@dataclass(frozen=True)
class Stream:
    """One recording of a file, as libsndfile can read it. `note`: what is odd about it, the end of such a sentence.

    `least`: frames that must come out; less means that the decoder stopped early.
    """

    data: bytes
    note: str | None = None
    least: int = 0

    def noting(self, note: str) -> "Stream":
        """The same with one more note."""
        return replace(self, note=f"{self.note}; {note}" if self.note else note)


def reader(path: Path) -> Callable[[], bytes]:
    """Read `path` when asked, and never much more than what `decode` takes."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    return read


def one_line(text: object) -> str:
    """`text` with each run of white space made one space; what UTF-8 cannot hold (odd file names) is escaped.

    JSON lines need the first: Unicode knows line breaks that JSON does not escape.
    """
    return " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())


def optional(text: object) -> str | None:
    """`one_line`, where nothing but white space counts as no text."""
    return (one_line(text) or None) if text is not None else None
