"""How long utterances take: each against the baseline's, all as a distribution, and against their tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from whisper_speedup.compare.latency import Latency
from whisper_speedup.compare.statistics import line
from whisper_speedup.report import numbers
from whisper_speedup.report.charts.canvas import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Drawing,
    Scale,
    frame,
    linear_scale,
    log_scale,
    marks,
    n,
    svg,
    text,
    ticks,
    time_ticks,
)
from whisper_speedup.report.numbers import TIMES

NAMED_AT_MOST = 400  # utterances whose marks carry their name; more are plain dots
Row = dict[str, Any]


@dataclass(frozen=True)
class Floor:
    """What a token costs at least: `seconds` at the bandwidth that this machine reached."""

    seconds: float


def scatter(latency: list[Latency], baseline: str, engines: list[str], labels: dict[str, str]) -> Drawing | None:
    """Each utterance: the baseline's time across, the engine's up, both by logarithm. None when nothing pairs."""
    pairs = {
        engine: [
            (before, after, row.id)
            for row in latency
            if (before := row.engines[baseline].seconds) is not None
            and (after := row.engines[engine].seconds) is not None
        ]
        for engine in engines
    }
    found = [point for points in pairs.values() for point in points]
    if not found:
        return None
    x = log_scale([before for before, _, _ in found], LEFT, RIGHT)
    y = log_scale([after for _, after, _ in found], BOTTOM, TOP)
    parts = frame(x, y, _seconds(x), _seconds(y), f"{labels[baseline]}, time of an utterance (log scale)",
                  f"{labels[engines[0]] if len(engines) == 1 else 'engine'} (log scale)")  # fmt: skip
    parts += _equal_time_lines(x, y)
    for place, points in enumerate(pairs.values(), 1):
        drawn = [
            (x(before), y(after), f"{name}: {numbers.seconds(before)}, {numbers.seconds(after)},"
             f" {numbers.times(before / after)}")
            for before, after, name in points
        ]  # fmt: skip
        parts.append(marks(drawn, place, NAMED_AT_MOST))
    slower = sum(after > before for before, after, _ in found)
    label = (
        f"Time of each of {numbers.plural(len(found), 'pair')} with {labels[baseline]} and with the engine:"
        f" {numbers.count(slower)} slower than {labels[baseline]}."
    )
    caption = f"One mark an utterance. Below the line of equal time the engine is faster than {labels[baseline]}."
    legend = [(place, labels[engine]) for place, engine in enumerate(engines, 1)] if len(engines) > 1 else []
    return Drawing("Utterance by utterance", caption, svg(parts, label), legend, "mark")


def distribution(latency: list[Latency], engines: list[str], labels: dict[str, str]) -> Drawing | None:
    """For each engine the share of utterances decoded within a time. None when nothing was decoded."""
    series = {
        engine: sorted(s for row in latency if (s := row.engines[engine].seconds) is not None) for engine in engines
    }
    found = [value for values in series.values() for value in values]
    if not found:
        return None
    x, y = log_scale(found, LEFT, RIGHT), Scale(0.0, 1.0, BOTTOM, TOP)
    shares = [(share / 4, f"{25 * share}%") for share in range(5)]
    parts = frame(x, y, _seconds(x), shares, "time of an utterance (log scale)", "utterances within that time")
    for place, values in enumerate(series.values()):
        if values:
            parts.append(f'<path class="line c{place % 8} dash{place % 4}" d="{_steps(values, x, y)}"/>')
    medians = [f"{labels[engine]} {numbers.seconds(values[len(values) // 2])}" for engine, values in series.items()
               if values]  # fmt: skip
    label = f"Share of utterances decoded within a time. Half take no longer than: {', '.join(medians)}."
    legend = [(place, labels[engine]) for place, engine in enumerate(engines)]
    caption = "Further left is faster, steeper is steadier."
    return Drawing("How long an utterance takes", caption, svg(parts, label), legend, "line")


def tokens(latency: list[Latency], engines: list[str], labels: dict[str, str], floor: Floor | None) -> Drawing | None:
    """Time against the tokens of an utterance, each engine's line through it, and the floor that reading sets."""
    series = {
        engine: [
            (result.tokens or 0, seconds, row.id)
            for row in latency
            if (seconds := (result := row.engines[engine]).seconds) is not None
        ]
        for engine in engines
    }
    found = [point for points in series.values() for point in points]
    if not found:
        return None
    x = linear_scale(max(count for count, _, _ in found), LEFT, RIGHT)
    top = _height([[seconds for _, seconds, _ in points] for points in series.values() if points])
    y = linear_scale(top, BOTTOM, TOP)
    unit, one = numbers.seconds_unit(y.high)
    y_ticks = [(value, f"{value / one:g}") for value in ticks(y, one)]
    across = [(value, f"{value:g}") for value in ticks(x) if value == int(value)]
    parts = frame(x, y, across, y_ticks, "tokens of the utterance", f"time of the utterance, {unit}")
    said = []
    for place, (engine, points) in enumerate(series.items()):
        drawn = [(x(count), y(seconds), f"{name}: {numbers.plural(count, 'token')}, {numbers.seconds(seconds)}")
                 for count, seconds, name in points if seconds <= top]  # fmt: skip
        parts.append(marks(drawn, place, NAMED_AT_MOST))
        fitted = fit(latency, engine)
        if fitted:
            slope, start = fitted
            ends = [(at, start + slope * at) for at in (min(c for c, _, _ in points), max(c for c, _, _ in points))]
            (x0, y0), (x1, y1) = [(x(at), y(min(max(0.0, value), y.high))) for at, value in ends]
            parts.append(f'<path class="fit c{place % 8} dash{place % 4}" d="M{n(x0)} {n(y0)}L{n(x1)} {n(y1)}"/>')
            said.append(f"{labels[engine]} {numbers.seconds(slope)}")
    caption = "Each engine's line is the best straight one through its marks: its slope is the time of one more token."
    if floor:
        end = min(x.high, y.high / floor.seconds)
        parts.append(f'<path class="floor" d="M{n(x(0))} {n(y(0))}L{n(x(end))} {n(y(end * floor.seconds))}"/>')
        caption += " No engine that reads 16-bit weights once for each token can lie below the floor."
    above = sum(seconds > top for _, seconds, _ in found)
    if above:
        caption += f" {numbers.plural(above, 'utterance')} took longer than the picture is high."
    label = f"Time of each utterance against its tokens. One more token takes: {', '.join(said) or 'not known'}."
    legend = [(place, labels[engine]) for place, engine in enumerate(engines)]
    said_of_floor = f"floor, {numbers.seconds(floor.seconds)} a token" if floor else None
    return Drawing("Time against length", caption, svg(parts, label), legend, "mark", said_of_floor)


def _height(series: list[list[float]]) -> float:
    """The greatest time, unless a few utterances took so long that the others would lie on the floor."""
    usual = max(float(np.quantile(values, 0.9)) for values in series)
    return most if (most := max(max(values) for values in series)) <= 4 * usual else 1.5 * usual


def fit(latency: list[Latency], engine: str) -> tuple[float, float] | None:
    """Seconds of one more token and of none, by least squares over the decoded utterances; None where unknowable."""
    rows = [(one.tokens or 0, one.seconds) for row in latency if (one := row.engines[engine]).seconds is not None]
    return line(
        np.array([float(tokens) for tokens, _ in rows]), np.array([seconds for _, seconds in rows], dtype=float)
    )


def _seconds(scale: Scale) -> list[tuple[float, str]]:
    """Ticks in seconds, without digits that say nothing: 200 ms, 5 s, 2 min."""
    labels = []
    for value in time_ticks(scale):
        figure, unit = numbers.seconds(value).split()
        labels.append((value, f"{_trim(figure)} {unit}"))
    return labels


def _trim(figure: str) -> str:
    return figure.rstrip("0").rstrip(".") if "." in figure else figure


def _steps(values: list[float], x: Scale, y: Scale) -> str:
    """The staircase of shares, no finer than a third of a pixel."""
    path, last = f"M{n(x(values[0]))} {n(y(0))}", None
    for place, value in enumerate(values, 1):
        here = round(x(value) * 3)
        if here == last and place < len(values):
            continue
        last = here
        path += f"H{n(x(value))}V{n(y(place / len(values)))}"
    return path


def _equal_time_lines(x: Scale, y: Scale) -> list[str]:
    """Where both take the same time, and where the baseline takes 2 and 10 times as long, as far as they show."""
    parts = []
    taken = 0.0  # of the first row of labels, under the upper edge
    for factor, label in ((1, "equal time"), (2, f"2{TIMES} as fast"), (10, f"10{TIMES} as fast")):
        end, start = min(x.high, y.high * factor), max(x.low, y.low * factor)
        if end <= start:
            continue
        x1, y1 = x(end), y(end / factor)
        kind = "guide" if factor == 1 else "guide dotted"
        x0, y0 = x(start), y(start / factor)
        parts.append(f'<path class="{kind}" d="M{n(x0)} {n(y0)}L{n(x1)} {n(y1)}"/>')
        if y.high * factor >= x.high:  # it leaves through the right edge
            parts.append(text(RIGHT - 5, y1 - 6 if y1 > TOP + 20 else y1 + 26, label, "note", "end"))
            continue
        wide = 8 * len(label)
        left = x1 - 6 - wide if x1 - wide > LEFT else x1 + 8
        parts.append(text(left, TOP + (12 if left > taken else 29), label, "note"))
        taken = left + wide
    return parts
