"""One recording as a source hands it over, not decoded yet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 2**30


@dataclass(frozen=True)
class Clip:
    """`read` gives the bytes of the WAV, FLAC, MP3 or OGG; called when the clip's turn comes, so none is kept.

    `reference` is the true transcript, None when there is none. `place` is what an error calls the clip: its path, or
    its id in a dataset.
    """

    id: str
    read: Callable[[], bytes]
    reference: str | None
    speaker: str | None
    place: str


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
