"""What every drawing is made of: scales, ticks, a frame with axes, marks and text. SVG without any style of its own."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 344
LEFT, RIGHT, TOP, BOTTOM = 66, 504, 32, 292  # the frame that points lie in
ENGINE_COLOURS = 8  # the stylesheet's classes c0 to c7; lines and marks repeat after 4
SHAPES = 4


@dataclass(frozen=True)
class Drawing:
    """A finished drawing. `label` says to a screen reader what the picture shows; `legend` is (class number, name)."""

    title: str
    caption: str
    svg: str
    legend: list[tuple[int, str]]
    kind: str  # of the legend's samples: "mark" or "line"
    floor: str | None = None  # what the legend says of the floor's line, where there is one


@dataclass(frozen=True)
class Scale:
    """From values low..high to pixels start..end, evenly or by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def log_scale(values: list[float], start: float, end: float) -> Scale:
    """A logarithmic scale with a little room around `values`, at least half a decade wide."""
    low, high = min(values) / 1.12, max(values) * 1.12
    if math.log10(high / low) < 0.6:  # room for two ticks
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    return Scale(low, high, start, end, log=True)


def linear_scale(high: float, start: float, end: float) -> Scale:
    """A scale from 0 with a little room above `high`."""
    return Scale(0.0, high * 1.06 or 1.0, start, end)


def ticks(scale: Scale, unit: float = 1.0, count: int = 5) -> list[float]:
    """About `count` even steps of a linear scale, round in a `unit` of so many."""
    step = _round_step(scale.high / unit / count) * unit
    return [n * step for n in range(int(scale.high / step + 1e-9) + 1)]


def ticks_between(scale: Scale, count: int = 5) -> list[float]:
    """About `count` even, round steps of a linear scale that need not begin at 0."""
    step = _round_step((scale.high - scale.low) / count)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def time_ticks(scale: Scale) -> list[float]:
    """Seconds on a logarithmic scale that are round as they are written: 200 ms, 5 s, 2 min."""
    subs = (1, 2, 5) if scale.high / scale.low > 8 else (1, 2, 3, 5, 7)
    below_a_minute = [sub * 10.0**decade for decade in range(-6, 2) for sub in subs if sub * 10.0**decade < 60]
    above = [sub * unit for unit in (60.0, 600.0, 3600.0, 36000.0) for sub in subs if unit != 600.0 or sub < 6]
    return [value for value in below_a_minute + above if scale.low <= value <= scale.high]


def _round_step(least: float) -> float:
    decade = 10.0 ** math.floor(math.log10(least))
    return next(sub * decade for sub in (1, 2, 5, 10) if sub * decade >= least * (1 - 1e-9))


def frame(x: Scale, y: Scale, x_ticks: list[tuple[float, str]], y_ticks: list[tuple[float, str]],
          x_title: str, y_title: str) -> list[str]:  # fmt: skip
    """Grid lines, tick labels and the two axes' titles. The y title stands above the frame, so that it reads level."""
    parts = []
    taken = 0.0
    for value, label in x_ticks:
        parts.append(f'<path class="grid" d="M{n(x(value))} {TOP}V{BOTTOM}"/>')
        half = 4.8 * len(label)  # of the label, with the type that a phone gets
        if x(value) - half > taken:
            parts.append(text(x(value), BOTTOM + 19, label, "tick", "middle"))
            taken = x(value) + half
    for value, label in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {n(y(value))}H{RIGHT}"/>')
        parts.append(text(LEFT - 8, y(value) + 4, label, "tick", "end"))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
    if x_title:
        parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 44, x_title, "title", "middle"))
    parts.append(text(0, 14, y_title, "title"))
    return parts


def text(x: float, y: float, content: str, kind: str, anchor: str = "start") -> str:
    """One line of text. `kind` is a class of the stylesheet: tick, title or note."""
    return f'<text class="{kind}" x="{n(x)}" y="{n(y)}" text-anchor="{anchor}">{escape(content)}</text>'


def marks(points: list[tuple[float, float, str]], engine: int, named_at_most: int) -> str:
    """Points (x, y, name) in pixels. Few have a shape and their name as a tooltip each; many are one path of dots."""
    if len(points) > named_at_most:
        places = "".join(f"M{n(x)} {n(y)}h0" for x, y, _ in points)
        return f'<path class="dots c{engine % ENGINE_COLOURS}" d="{places}"/>'
    shape = engine % SHAPES
    drawn = "".join(f'<path d="{_shape(shape, x, y)}"><title>{escape(name)}</title></path>' for x, y, name in points)
    return f'<g class="mark c{engine % ENGINE_COLOURS}">{drawn}</g>'


def _shape(shape: int, x: float, y: float) -> str:
    """Circle, square, diamond, triangle: told apart without colour."""
    if shape == 0:
        return f"M{n(x - 3.5)} {n(y)}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z"
    if shape == 1:
        return f"M{n(x - 3.1)} {n(y - 3.1)}h6.2v6.2h-6.2z"
    if shape == 2:
        return f"M{n(x)} {n(y - 4.4)}l4.4 4.4l-4.4 4.4l-4.4 -4.4z"
    return f"M{n(x)} {n(y - 4.2)}l4.2 7.4h-8.4z"


def svg(parts: list[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The whole element; `label` is what a screen reader says."""
    body = "".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {n(width)} {n(height)}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def n(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough, and short."""
    return f"{value:.1f}".removesuffix(".0")
