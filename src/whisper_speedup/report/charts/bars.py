"""Bars that stand in a table's cells: the numbers beside them are the table's, so the picture needs none."""

from dataclasses import dataclass, field

from whisper_speedup.report.charts.canvas import n


@dataclass(frozen=True)
class Segment:
    """A stretch of a bar: `kind` is a class of the stylesheet, such as part0 or c1; `value` its length."""

    kind: str
    value: float


@dataclass(frozen=True)
class BarTable:
    """`columns` are (class, title), rows (key class, label, bar, cells); below them stand `terms`, (word, meaning), and
    `notes`, sentences.
    """

    title: str
    caption: str
    unit: str
    columns: list[tuple[str, str]]
    rows: list[tuple[str, str, str, list[str]]]
    terms: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: str | None = None  # of the first column; None: Engine where there is a unit, else Step


def bar(segments: list[Segment], whole: float, start: float = 0.0) -> str:
    """Segments one after the other on a bar that is `whole` long, the first from `start`. Decoration to a reader."""
    parts, at = [], start
    for segment in segments:
        parts.append(
            f'<rect class="{segment.kind}" x="{n(1000 * at / whole)}" width="{n(1000 * segment.value / whole)}"'
            ' height="10"/>'
        )
        at += segment.value
    return (
        '<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )
