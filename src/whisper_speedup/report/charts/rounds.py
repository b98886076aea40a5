"""Round by round: a dot for each round's speedup in the order of time, and the two intervals beside them."""

from dataclasses import dataclass

from whisper_speedup.report import numbers
from whisper_speedup.report.charts.canvas import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Drawing,
    Scale,
    frame,
    marks,
    n,
    svg,
    text,
    ticks_between,
)

NAMED_AT_MOST = 60  # rounds whose dots carry their value; more are plain dots
_DOTS_END = 330  # where the rounds end and the intervals begin
_CAP = 7  # half the width of an interval's ends


@dataclass(frozen=True)
class Span:
    """An interval and the speedup that it belongs to."""

    name: str
    value: float
    low: float | None
    high: float | None


def rounds(label: str, place: int, speedups: list[float], spans: list[Span], starts: int = 1) -> Drawing:
    """One engine's rounds, those of each of `starts` starts between lines. `place` is its colour; `spans` stand to the
    right, in this order."""
    ends = [end for span in spans for end in (span.value, span.low, span.high) if end is not None]
    least, most = min([*speedups, *ends]), max([*speedups, *ends])
    room = 0.08 * (most - least) or 0.05 * most
    y = Scale(least - room, most + room, BOTTOM, TOP)
    x = Scale(0.5, len(speedups) + 0.5, LEFT, _DOTS_END)
    every = max(1, -(-len(speedups) // 10))
    across = [(float(one), str(one)) for one in range(1, len(speedups) + 1) if (one - 1) % every == 0]
    up = [(value, f"{value:g}{numbers.TIMES}") for value in ticks_between(y)]
    parts = frame(x, y, across, up, "", f"speed, {numbers.TIMES} the baseline")
    each = len(speedups) // starts
    between = "".join(f"M{n(x(start * each + 0.5))} {TOP}V{BOTTOM}" for start in range(1, starts))
    if between:
        parts.append(f'<path class="between" d="{between}"/>')
    across_title = "round" if starts == 1 else "round (a line: all engines started anew)"
    parts.append(text((LEFT + _DOTS_END) / 2, BOTTOM + 44, across_title, "title", "middle"))
    parts.append(text((_DOTS_END + RIGHT) / 2, BOTTOM + 44, "95% interval over", "title", "middle"))
    parts.append(f'<path class="axis" d="M{_DOTS_END} {TOP}V{BOTTOM}"/>')
    dots = [(x(one), y(value), f"round {one}: {numbers.times(value)}") for one, value in enumerate(speedups, 1)]
    parts.append(marks(dots, place, NAMED_AT_MOST))
    for number, span in enumerate(spans):
        at = _DOTS_END + (RIGHT - _DOTS_END) * (number + 0.5) / len(spans)
        parts += _span(span, at, y, place, dashed=number % 4)
    after = "" if starts == 1 else f" after {numbers.plural(starts, 'start')}"
    said = ", ".join(f"{span.name} {_said(span)}" for span in spans)
    alt = (
        f"Speed of {label} in {numbers.plural(len(speedups), 'round')}{after}: {numbers.times(min(speedups))} to"
        f" {numbers.times(max(speedups))}. {said}."
    )
    return Drawing(label, "", svg(parts, alt), [], "mark")


def _span(span: Span, at: float, y: Scale, place: int, dashed: int) -> list[str]:
    """A bar with ends, its speedup as a mark, its name below the axis."""
    colour = place % 8
    parts = []
    if span.low is not None and span.high is not None:
        low, high = n(y(span.low)), n(y(span.high))
        ends = f"M{n(at - _CAP)} {low}h{2 * _CAP}M{n(at - _CAP)} {high}h{2 * _CAP}"
        parts.append(f'<path class="line c{colour} dash{dashed}" d="M{n(at)} {low}V{high}"/>')
        parts.append(f'<path class="line c{colour}" d="{ends}"/>')
    parts.append(marks([(at, y(span.value), f"{span.name}: {_said(span)}")], place, NAMED_AT_MOST))
    return [*parts, text(at, BOTTOM + 19, span.name, "tick", "middle")]


def _said(span: Span) -> str:
    return f"{numbers.times(span.value)}, 95% interval {numbers.interval(span.low, span.high)}"
