"""The ladder: from the baseline to our whole engine, one optimisation switched on after the other, as a waterfall."""

from typing import Any

import numpy as np

from whisper_speedup.compare.latency import Latency
from whisper_speedup.compare.statistics import ratio_interval
from whisper_speedup.report import numbers, summary
from whisper_speedup.report.charts.bars import BarTable, Segment, bar

Row = dict[str, Any]
# What a stranger must know of each part, in the words of what runs without it.
MEANINGS = {
    "own_loop": "transformers' generate and its model code replaced by a bare loop: the prompt is decoded once and not"
    " once a beam, query, key and value come from one product, and the search is our own. The parts below are all off.",
    "shared_cross_attention": "the beams read one copy of what the decoder sees of the audio. Off: a copy for each"
    " beam, all of them moved whenever beams change places.",
    "ancestry": "a small table says which beam wrote which token's keys and values. Off: they are appended to and all"
    " moved whenever beams change places.",
    "packed_weights": "weights in the form that is fastest to read: on a GPU fp16, on a CPU the layout of its product"
    " routines, 16-bit where that loses nothing. Off: fp32, cast by autocast on a GPU.",
    "step_graph": "a decode step is recorded once as a CUDA graph and started as a whole. Off: operation by operation.",
    "device_search": "the beam search runs on the GPU inside that graph. Off: on the host, which waits for each step.",
    "kernels": "the step is made of this repository's own GPU kernels. Off: PyTorch's operations.",
    "encoder_graph": "the encoder is a CUDA graph too.",
    "one_launch": "all layers of a decode step are one kernel that stays on the GPU and has its weights always on their"
    " way. Off: eight kernels a layer.",
}


def ladder(context: Row, metrics: Row, latency: list[Latency]) -> BarTable | None:
    """The waterfall, None for a run without rungs. Seconds are over what a rung and the baseline both decoded."""
    rungs = [engine for engine in context["engines"] if summary.is_rung(engine)]
    climbed = [*rungs, *(engine for engine in context["engines"] if engine == "fused")]
    climbed = [engine for engine in climbed if metrics.get(f"{engine}.speedup")]
    if not rungs or not climbed:
        return None
    baseline = context["baseline"]
    start = float(metrics[f"{baseline}.total_s"])
    # By the speedup, so that each rung is over the utterances that it and the baseline both decoded.
    after = [start / metrics[f"{engine}.speedup"] for engine in climbed]
    before = [start, *after[:-1]]
    column, saved = numbers.seconds_column([start, *after]), [a - b for a, b in zip(before, after, strict=True)]
    gains = numbers.seconds_column([None, *saved])
    rows = [("c0", summary.label(baseline), bar([Segment("c0", start)], max(start, *after)),
             [column.cells[0], gains.cells[0], numbers.MISSING, numbers.times(1.0), numbers.MISSING])]  # fmt: skip
    below: Row | None = None
    for place, engine in enumerate(climbed):
        low, high = sorted((before[place], after[place]))
        kind = "gain" if saved[place] >= 0 else "loss"
        drawn = bar([Segment("c1", low), Segment(kind, high - low)], max(start, *after))
        run, previous = context["runs"][engine], [baseline, *climbed][place]
        label = _label(_on(run), None if below is None else _on(below), engine)
        different, total = metrics[f"{engine}.different_tokens"], context["comparisons"][engine]["utterances"]
        rows.append(("c1", label, drawn, [
            column.cells[place + 1], gains.cells[place + 1], _alone(latency, previous, engine),
            numbers.times(metrics[f"{engine}.speedup"]), f"{numbers.count(different)} of {numbers.count(total)}",
        ]))  # fmt: skip
        below = run
    columns = [
        ("", f"Time, {column.unit}"), ("gain", f"Saved, {gains.unit}"), ("", "This step alone (95% interval)"),
        ("", "Speed so far"), ("", "Outputs with other tokens"),
    ]  # fmt: skip
    caption = (
        f"From {summary.label(baseline)} to our whole engine: each row is a run of its own, in a process of its own,"
        " with one part more switched on than the row above it. Every row's output is checked against"
        f" {summary.label(baseline)}'s. The interval is over utterances and knows nothing of a machine that was busier"
        " during one run than during another."
    )
    used = {"own_loop", *(part for engine in climbed for part in _on(context["runs"][engine]))}
    terms = [(_words(part), meaning) for part, meaning in MEANINGS.items() if part in used]
    notes = list(left_out(context).values())
    return BarTable("What each optimisation brings", caption, "", columns, rows, terms, notes)


def left_out(context: Row) -> dict[str, str]:
    """Engines of the profile that this machine could not run, and why, a sentence each."""
    found: dict[str, str] = context.get("left_out") or {}
    asked = [engine for engine in context["params"]["engines"] if engine in found]  # JSON's sorted keys lose the order
    return {engine: found[engine].replace(engine, summary.label(engine), 1) for engine in asked}


def _on(run: Row) -> list[str]:
    return list(run["settings"].get("on") or [])


def _label(on: list[str], below: list[str] | None, engine: str) -> str:
    """What this rung adds to the one below it (None: the baseline)."""
    added = [_words(part) for part in on if part not in (below or [])]
    removed = [_words(part) for part in below or [] if part not in on]
    words = " ".join([*(["own loop"] if below is None else []), *(f"+ {part}" for part in added),
                      *(f"{numbers.MINUS} {part}" for part in removed)])  # fmt: skip
    return f"{words[:1].upper()}{words[1:]}{f', which makes {summary.label(engine)}' if engine == 'fused' else ''}"


def _words(part: str) -> str:
    return part.replace("_", " ").replace("cross attention", "cross-attention")


def _alone(latency: list[Latency], before: str, after: str) -> str:
    """One rung against the one below it, over the utterances that both decoded."""
    pairs = [(row.engines[before].seconds, row.engines[after].seconds) for row in latency]
    known = np.array([pair for pair in pairs if None not in pair], dtype=float)
    if not len(known):
        return numbers.MISSING
    interval = ratio_interval(known[:, 0], known[:, 1])
    ratio = numbers.times(float(known[:, 0].sum() / known[:, 1].sum()))
    return f"{ratio} ({numbers.interval(*interval)})" if interval else ratio
