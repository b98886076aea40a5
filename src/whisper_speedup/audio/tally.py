"""What a source of speech held beside its recordings, for the one line with which the data stage ends."""

from collections import Counter
from dataclasses import dataclass, field

from whisper_speedup.audio.clips import Clip
from whisper_speedup.errors import readable

NAMES = 3  # so many names are given of a kind


@dataclass
class Tally:
    """`passed_over`: names of files by kind. `remarks`: what else was decided. `held`: recordings before the limit."""

    passed_over: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    held: int | None = None

    def leave(self, kind: str, name: object) -> None:
        """Count a file that is passed over."""
        self.passed_over.setdefault(kind, []).append(readable(str(name)))

    def line(self, clips: list[Clip], unreadable: int, noted: int) -> str:
        """So many recordings, so many without a transcript, so many files passed over and why."""
        chosen = f"{len(clips)} of " if self.held is not None and self.held > len(clips) else ""
        parts = [f"{chosen}{_count(self.held if chosen else len(clips), 'recording')}"]
        parts += [f"{unreadable} cannot be read"] if unreadable else []
        parts += [f"{noted} with a note"] if noted else []
        parts.append(f"{sum(clip.reference is None for clip in clips)} without a transcript")
        parts += [f"{what}: {count}" for what, count in self.remarks.items()]
        return f"data: {', '.join(parts)}, {self.left()}"

    def left(self) -> str:
        """So many files passed over and why."""
        total = sum(map(len, self.passed_over.values()))
        why = "; ".join(_kind(kind, names) for kind, names in sorted(self.passed_over.items()))
        return f"{_count(total, 'file')} passed over" + (f": {why}" if why else "")


def _count(number: int | None, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _kind(kind: str, names: list[str]) -> str:
    shown = ", ".join(name if len(name) <= 60 else f"{name[:57]}..." for name in names[:NAMES])
    return f"{len(names)} {kind} ({shown}{', ...' if len(names) > NAMES else ''})"
