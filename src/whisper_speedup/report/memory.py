"""Where each engine's memory goes, as far as its run says; what is not known is said and not drawn."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.report import numbers, summary
from whisper_speedup.report.charts.bars import Segment, bar

Row = dict[str, Any]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PARTS = {
    "weights": "Weights",
    "caches": "Caches and buffers",
    "activations": "Activations",
    "reserved": "Reserved, unused",
    "rest": "All the rest",
}


@dataclass(frozen=True)
class MemoryTable:
    """`columns` are (class, title), `rows` (engine's place, label, bar, cells), all in `unit`; notes are sentences."""

    unit: str
    columns: list[tuple[str, str]]
    rows: list[tuple[int, str, str, list[str]]]
    notes: list[str]


def memory(context: Row) -> MemoryTable:
    """One row an engine, its parts and its peak."""
    engines = context["engines"]
    found = {engine: parts(context["runs"][engine], context["model"]["parameters"]) for engine in engines}
    shown = [key for key in PARTS if any(found[engine][key] is not None for engine in engines)]
    peaks = {engine: sum(value for value in found[engine].values() if value is not None) for engine in engines}
    order = [[found[engine][key] for engine in engines] for key in shown]
    order.append([peaks[engine] or None for engine in engines])
    column = numbers.size_column([value for values in order for value in values])
    cells = [column.cells[place * len(engines) : (place + 1) * len(engines)] for place in range(len(order))]
    rows = []
    for place, engine in enumerate(engines):
        segments = [Segment(f"part{i}", found[engine][key] or 0) for i, key in enumerate(shown)]
        drawn = bar(segments, max(peaks.values()) or 1)
        rows.append((place, summary.label(engine), drawn, [part[place] for part in cells]))
    columns = [(f"part{i}", PARTS[key]) for i, key in enumerate(shown)]
    return MemoryTable(column.unit, columns, rows, _notes(context, "weights" in shown))


def parts(run: Row, parameters: int) -> dict[str, float | None]:
    """Bytes of each part; None where the run does not tell. They add up to the peak.

    On a GPU: `allocated` after the last utterance is weights and what is kept between utterances; what its maximum
    adds came and went; what was reserved beyond is the allocator's. On a CPU only the process's peak is known. An
    engine may report `weights`, `caches` and `activations` itself, and is then believed.
    """
    told, size = run["memory"], BYTES.get(run["dtype"])
    if size == 2 and rounded(run):  # part of them in 8 bits, and the number of parameters does not say how many
        size = None
    weights = told.get("weights") or (parameters * size if size else None)
    if told.get("max_reserved") is None:
        peak = told["process_peak"]
        weights = weights if weights and weights <= peak else None
        known = {key: told.get(key) for key in ("caches", "activations")}
        rest = peak - sum(value or 0 for value in (weights, *known.values()))
        return {"weights": weights, **known, "reserved": None, "rest": rest}
    weights = weights if weights and weights <= told["allocated"] else None
    caches = told["allocated"] - (weights or 0)
    return {
        "weights": weights,
        "caches": caches,
        "activations": told["max_allocated"] - told["allocated"],
        "reserved": told["max_reserved"] - told["max_allocated"],
        "rest": None,
    }


def rounded(run: Row) -> bool:
    """Whether an engine rounds its weights to 8 bits."""
    return bool((run.get("settings") or {}).get("weights"))


def _notes(context: Row, weights: bool) -> list[str]:
    runs, model = [context["runs"][engine] for engine in context["engines"]], context["model"]
    disk = sum(file["bytes"] for file in model["files"] if file["name"].endswith((".safetensors", ".bin")))
    notes = [
        f"Weights are computed, not measured: {numbers.millions(model['parameters'])} parameters times the bytes of the"
        f" engine's precision ({numbers.size(disk)} on disk)."
        if weights
        else "The weights cannot be told apart from the rest."
    ]
    if all(run["memory"].get("max_reserved") is None for run in runs):
        return [
            *notes,
            "On a CPU the operating system tells only the peak of the whole process. Python, PyTorch and its libraries,"
            " caches and activations are therefore not told apart.",
        ]
    return [
        *notes,
        "Caches and buffers: what PyTorch still held after the last utterance, less the weights. Activations: what the"
        " busiest moment held beyond that. Reserved, unused: what PyTorch took from the driver and never filled. The"
        " CUDA context, about half a gigabyte, is in none of them.",
    ]
