"""The scaling curve: how many utterances a second so many workers decode, beside that many times one worker's rate."""

from typing import Any

from whisper_speedup.report.charts.canvas import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Drawing,
    frame,
    linear_scale,
    marks,
    n,
    svg,
    ticks,
)

Row = dict[str, Any]
NAMED = 100


def scaling(rows: list[Row]) -> Drawing:
    """`rows`: `workers`, `utterances_per_s` and `device` of each run, one worker among them; not empty."""
    found = sorted((int(row["workers"]), float(row["utterances_per_s"])) for row in rows)
    alone = [rate / count for count, rate in found if count == found[0][0]]
    one = sum(alone) / len(alone)
    most = found[-1][0]
    x = linear_scale(most, LEFT, RIGHT)
    y = linear_scale(max(one * most, *(rate for _, rate in found)), BOTTOM, TOP)
    counts = sorted({count for count, _ in found})
    x_ticks = [(float(count), str(count)) for count in counts]
    parts = frame(x, y, x_ticks, [(tick, f"{tick:g}") for tick in ticks(y)], "workers", "utterances a second")
    parts.append(f'<path class="floor" d="M{n(x(0))} {n(y(0))}L{n(x(most))} {n(y(one * most))}"/>')
    points = [(x(count), y(rate), f"{count}: {rate:.3g} utterances a second") for count, rate in found]
    parts.append(marks(points, 1, NAMED))
    best = max(rate for count, rate in found if count == most)
    reached = f"{most} workers reached {best / one:.2f} times one worker's rate"
    return Drawing(
        "More workers",
        f"{reached}, over the same set on {rows[0]['device']}. A mark is a run; the dashed line is so many times one"
        " worker.",
        svg(parts, f"Utterances a second against workers. {reached}."),
        [],
        "mark",
    )
