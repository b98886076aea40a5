"""The section about speed: its drawings, where the time goes, the ladder of optimisations, and what is not known."""

from dataclasses import dataclass, field
from typing import Any

from whisper_speedup.compare.latency import Latency
from whisper_speedup.report import numbers, summary
from whisper_speedup.report.charts import times
from whisper_speedup.report.charts.bars import BarTable, Segment, bar
from whisper_speedup.report.charts.canvas import Drawing
from whisper_speedup.report.ladder import ladder
from whisper_speedup.report.memory import rounded

Row = dict[str, Any]
PARTS = {"encoder_s": "Encoder", "prefill_s": "Prompt", "steps_s": "Decode steps", "host_s": "Search and host"}


@dataclass(frozen=True)
class Speed:
    drawings: list[Drawing]
    floor: str | None
    breakdown: BarTable | None
    ladder: BarTable | None
    missing: list[str] = field(default_factory=list)


def speed(context: Row, metrics: Row, latency: list[Latency]) -> Speed:
    """Everything about time beyond the table of engines."""
    engines, baseline = context["engines"], context["baseline"]
    shown = summary.compared(context)
    labels = {engine: summary.label(engine) for engine in engines}
    floor = step_floor(context)
    drawings = [
        times.scatter(latency, baseline, shown[1:], labels),
        times.distribution(latency, shown, labels),
        times.tokens(latency, shown, labels, times.Floor(floor["seconds"]) if floor else None),
    ]
    breakdown, waterfall = _breakdown(context), ladder(context, metrics, latency)
    missing = []
    if not floor:
        missing.append("The bandwidth floor of a token: these runs did not record the machine's memory bandwidth.")
    if breakdown is None:
        missing.append("Where the time goes (encoder, prompt, decode steps, host): no engine of this run reports it.")
    if waterfall is None:
        missing.append(
            "What each optimisation brings by itself: profile ladder measures it, one switched on after the other."
        )
    return Speed(
        [drawing for drawing in drawings if drawing],
        _floor_words(floor, context, latency),
        breakdown,
        waterfall,
        missing,
    )


def step_floor(context: Row) -> Row | None:
    """The floor of the run that saw the highest bandwidth: the machine was least disturbed then."""
    floors = [context["runs"][engine].get("step_floor") for engine in context["engines"]]
    return min((floor for floor in floors if floor), key=lambda floor: floor["seconds"], default=None)


def _floor_words(floor: Row | None, context: Row, latency: list[Latency]) -> str | None:
    if not floor:
        return None
    said = (
        f"A decode step must read {numbers.megabytes(floor['bytes'])} of 16-bit weights, keys and values. This machine"
        f" reads {numbers.gigabytes_a_second(floor['bandwidth_bytes_s'])}, so a token cannot take less than"
        f" {numbers.seconds(floor['seconds'])}."
    )
    if any(rounded(context["runs"][engine]) for engine in context["engines"]):
        said += " Weights in 8 bits are half as many bytes where a GPU reads them."
    for engine in summary.compared(context):
        found = times.fit(latency, engine)
        taken = (context["runs"][engine].get("breakdown") or {}).get("step_s") or (found[0] if found else None)
        if taken:
            said += (
                f" {summary.label(engine)} takes {numbers.seconds(taken)},"
                f" {numbers.ratio(taken / floor['seconds'])} times that."
            )
    return said


def _breakdown(context: Row) -> BarTable | None:
    """run.json's optional `breakdown`: seconds of each part, over `utterances` of them."""
    told = {engine: context["runs"][engine].get("breakdown") for engine in context["engines"]}
    told = {engine: found for engine, found in told.items() if found and any(found.get(key) for key in PARTS)}
    if not told:
        return None
    shown = [key for key in PARTS if any(found.get(key) is not None for found in told.values())]
    wholes = {engine: sum(found.get(key) or 0.0 for key in shown) for engine, found in told.items()}
    values = [found.get(key) for key in shown for found in told.values()] + list(wholes.values())
    column = numbers.seconds_column(values)
    rows = []
    for place, (engine, found) in enumerate(told.items()):
        drawn = bar([Segment(f"part{i}", found.get(key) or 0.0) for i, key in enumerate(shown)], max(wholes.values()))
        cells = [column.cells[i * len(told) + place] for i in range(len(shown) + 1)]
        rows.append((f"c{summary.places(context)[engine]}", summary.label(engine), drawn, cells))
    columns = [*((f"part{i}", PARTS[key]) for i, key in enumerate(shown)), ("", "Sum")]
    counts = {found.get("utterances") for found in told.values()} - {None}
    over = f"{counts.pop()} utterances" if len(counts) == 1 else "a few utterances"
    caption = (
        f"Over {over}, decoded once more after the timed run. Each part is timed by itself, the device waited for"
        " before and after, which makes the whole a little longer."
    )
    return BarTable("Where the time goes", caption, column.unit, columns, rows)
