"""The three drawings: how long utterances take, utterance against utterance, and memory."""

import io
import math
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from whisper_speedup.report import svg
from whisper_speedup.report.numbers import TIMES, seconds, size

# Any: matplotlib types this as a dictionary of its some 300 literal keys.
_SETTINGS: Any = {
    "svg.hashsalt": "whisper-speedup",  # ids depend on the drawing alone: same inputs, same bytes
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": svg.INK,
    "axes.labelcolor": svg.MUTED,
    "axes.edgecolor": svg.GRID,
    "xtick.color": svg.MUTED,
    "ytick.color": svg.MUTED,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": svg.GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "path.simplify": False,
}
_STYLES = ["-", "--", "-.", ":"]
_MARKERS = ["o", "s", "^", "D"]


@dataclass(frozen=True)
class Plot:
    """A drawing ready for the page, and what it shows in a sentence."""

    title: str
    caption: str
    svg: str


def distribution(latency: list[dict[str, Any]], engines: list[str], labels: dict[str, str]) -> Plot | None:
    """For each engine the share of utterances decoded within a time. None when nothing was decoded."""
    series = {
        engine: sorted(row["engines"][engine]["seconds"] for row in _decoded(latency, engine)) for engine in engines
    }
    if not any(series.values()):
        return None
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _axes()
        for i, (engine, values) in enumerate(series.items()):
            if values:
                share = np.arange(1, len(values) + 1) / len(values)
                axes.step([values[0], *values], [0, *share], where="post", label=labels[engine], **_line(i))
        _log_seconds(axes, "x", [value for values in series.values() for value in values])
        axes.set_xlabel("time to decode an utterance (log scale)")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f}%"))
        axes.set_ylabel("utterances decoded within that time")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.14), ncols=len(engines), handlelength=2.4)
        drawing = _svg(figure, "distribution", "Share of utterances decoded within a time, one line an engine.")
    return Plot("How long an utterance takes", "Further left is faster. Steeper is steadier.", drawing)


def scatter(latency: list[dict[str, Any]], baseline: str, engines: list[str], labels: dict[str, str]) -> Plot | None:
    """Each utterance: the baseline's time across, the engine's up. None when no utterance was decoded by both."""
    pairs = {
        engine: [
            (row["engines"][baseline]["seconds"], row["engines"][engine]["seconds"])
            for row in _decoded(_decoded(latency, engine), baseline)
        ]
        for engine in engines
    }
    if not any(pairs.values()):
        return None
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _axes()
        for i, (engine, points) in enumerate(pairs.items(), 1):
            if points:
                before, after = zip(*points, strict=True)
                colour, marker = svg.ENGINES[i % len(svg.ENGINES)], _MARKERS[(i - 1) % len(_MARKERS)]
                size_pt = 4.5 if len(points) <= 200 else 2.2
                opacity = 0.85 if len(points) <= 200 else 0.5
                axes.plot(
                    before, after, marker, color=colour, markersize=size_pt, alpha=opacity, label=labels[engine], mew=0
                )
        across = [before for points in pairs.values() for before, _ in points]
        up = [after for points in pairs.values() for _, after in points]
        _log_seconds(axes, "x", across)
        _log_seconds(axes, "y", up)
        _equal_time_lines(axes)
        axes.set_xlabel(f"{labels[baseline]}: time for an utterance (log scale)")
        axes.set_ylabel(f"{labels[engines[0]] if len(engines) == 1 else 'the other engine'}: time (log scale)")
        if len(engines) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(0, 1.14), ncols=len(engines))
        drawing = _svg(figure, "scatter", "Time of each utterance with the baseline and with the other engine.")
    caption = f"One mark an utterance. Below the line of equal time, {labels[baseline]} is the slower of the two."
    return Plot("Utterance by utterance", caption, drawing)


def memory(peaks: dict[str, float | None], what: str) -> Plot | None:
    """Peak memory, one bar an engine. `peaks` is in bytes; None when no engine's is known."""
    known = {engine: value for engine, value in peaks.items() if value is not None}
    if not known:
        return None
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(4.6, 0.25 + 0.34 * len(peaks)), layout="constrained")
        axes = figure.add_subplot()
        top = max(known.values())
        for i, value in enumerate(peaks.values()):
            axes.barh(i, value or 0, height=0.6, color=svg.ENGINES[i % len(svg.ENGINES)])
            note = size(value) if value is not None else "not measured"
            axes.text((value or 0) + 0.015 * top, i, note, va="center", color=svg.INK)
        axes.set_yticks(range(len(peaks)), list(peaks))
        axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
        axes.invert_yaxis()
        axes.set_xlim(0, top * 1.25)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        drawing = _svg(figure, "memory", "; ".join(f"{engine} {size(value)}" for engine, value in peaks.items()))
    return Plot("Memory", what, drawing)


def _decoded(latency: list[dict[str, Any]], engine: str) -> list[dict[str, Any]]:
    return [row for row in latency if row["engines"][engine]["seconds"] is not None]


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, alpha=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure, axes


def _line(i: int) -> dict[str, Any]:
    return {"color": svg.ENGINES[i % len(svg.ENGINES)], "linestyle": _STYLES[i % len(_STYLES)], "linewidth": 1.8}


def _log_seconds(axes: Axes, which: str, values: list[float]) -> None:
    """A log axis around `values`, a few round ticks in each decade, written with their unit."""
    low, high = min(values) / 1.12, max(values) * 1.12
    if math.log10(high / low) < 0.6:  # room for at least two ticks
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if high / low > 12 else (1, 2, 3, 5, 7), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    """A round number of seconds without digits that say nothing: 200 ms, 5 s, 2 min."""
    text, unit = seconds(value).split()
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def _equal_time_lines(axes: Axes) -> None:
    """Where both take the same time, and where the baseline takes 2, 5 and 10 times as long, as far as they show."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for factor, label in ((1, "equal time"), (2, f"2{TIMES} as fast"), (5, f"5{TIMES}"), (10, f"10{TIMES}")):
        # Where the line leaves the picture: at the right edge, or through the top.
        end = min(right, top * factor)
        start = max(left, bottom * factor)
        if end <= start:
            continue
        axes.plot(
            [start, end], [start / factor, end / factor], color=svg.MUTED, linewidth=0.9,
            linestyle="-" if factor == 1 else (0, (2, 3)), scalex=False, scaley=False,
        )  # fmt: skip
        through_top = top * factor < right
        axes.annotate(
            label, (end, end / factor), xytext=(3, -2) if through_top else (-3, 4), textcoords="offset points",
            ha="left" if through_top else "right", va="top" if through_top else "bottom", color=svg.MUTED, fontsize=8,
        )  # fmt: skip


def _svg(figure: Figure, prefix: str, label: str) -> str:
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return svg.inline(buffer.getvalue(), prefix, label)
