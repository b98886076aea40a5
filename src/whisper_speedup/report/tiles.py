"""The first screen: four answers, each with its interval, its totals and what the notebook claimed."""

from dataclasses import dataclass, field
from typing import Any

from whisper_speedup.compare.latency import Latency
from whisper_speedup.report import numbers, published, summary
from whisper_speedup.report.rates import rates
from whisper_speedup.report.yardstick import span

Row = dict[str, Any]


@dataclass(frozen=True)
class Tile:
    """`value` is the answer, `unit` the words that finish it, `lines` what belongs to it, `claim` the notebook's."""

    name: str
    value: str
    unit: str
    claim: str
    lines: list[str] = field(default_factory=list)


def tiles(context: Row, metrics: Row, engine: str) -> list[Tile]:
    """Speed, text, errors, memory."""
    return [
        _speed(context, metrics, engine),
        _text(context, metrics, engine),
        _errors(context, metrics, engine),
        _memory(context, metrics, engine),
    ]


def _speed(context: Row, metrics: Row, engine: str) -> Tile:
    pair, baseline = context["comparisons"][engine], summary.label(context["baseline"])
    low, high = metrics[f"{engine}.speedup_low"], metrics[f"{engine}.speedup_high"]
    lines = []
    if low is not None:
        lines.append(f"95% interval {numbers.interval(low, high)}")
    low, high = metrics.get(f"{engine}.speedup_rounds_low"), metrics.get(f"{engine}.speedup_rounds_high")
    if low is not None:
        in_turns = numbers.times(metrics[f"{engine}.speedup_rounds"])
        lines.append(f"in turns {in_turns}, {numbers.interval(low, high)}")
    if pair["total_s"] is not None:
        before, after = numbers.seconds(pair["baseline_total_s"]), numbers.seconds(pair["total_s"])
        lines.append(f"{after} in all instead of {before}")
    claim = (
        f"{published.SPEEDUP}{numbers.TIMES}, {numbers.seconds(published.TOTAL_S)} instead of"
        f" {numbers.seconds(published.BASELINE_TOTAL_S)}"
    )
    speedup = metrics[f"{engine}.speedup"]
    return Tile("Speed", numbers.times(speedup), f"the speed of {baseline}", claim, lines)


def _text(context: Row, metrics: Row, engine: str) -> Tile:
    total, texts = context["comparisons"][engine]["utterances"], metrics[f"{engine}.different"]
    tokens = metrics[f"{engine}.different_tokens"]
    claim = (
        f"{published.DIFFERENT} of {numbers.count(published.UTTERANCES)} differ"
        f" ({numbers.percent(published.DIFFERENT / published.UTTERANCES)})"
    )
    if not total:
        return Tile("Same text?", numbers.MISSING, "no outputs to compare", claim)
    if tokens == 0 and texts == 0:
        lines = ["the same token for token"]
    else:
        lines = [f"{numbers.percent(texts / total)} of the texts", f"{numbers.count(tokens)} differ in their tokens"]
    more = [line for line in (summary.verdicts(metrics, engine), span(context, metrics)) if line]
    unit = "output differs" if total == 1 else "outputs differ"
    value = f"{numbers.count(texts)} of {numbers.count(total)}"
    return Tile("Same text?", value, unit, claim, [*lines, *more])


def _errors(context: Row, metrics: Row, engine: str) -> Tile:
    rate, *others = rates(context)
    before, after = metrics[f"{context['baseline']}.{rate.key}"], metrics[f"{engine}.{rate.key}"]
    name, claim = f"{rate.name} ({rate.short})", "none given"
    if before is None or after is None:
        why = "no reference texts" if context["model"]["trained"] else "the weights are random"
        return Tile(name, numbers.MISSING, why, claim)
    pair = context["comparisons"][engine]
    lines = [f"{summary.label(context['baseline'])} {numbers.percent(before)}"]
    difference = pair[f"{rate.key}_difference"]
    if difference is not None:
        lines.append(f"difference {numbers.points(difference)}")
        interval = summary.points_interval(pair[f"{rate.key}_difference_interval"])
        if interval:
            lines.append(f"95% interval {interval.removesuffix(' points')}")
    lines += [f"{other.short} {numbers.percent(metrics[f'{engine}.{other.key}'])}" for other in others]
    return Tile(name, numbers.percent(after), f"of the {rate.many} are wrong", claim, lines)


def _memory(context: Row, metrics: Row, engine: str) -> Tile:
    claim = f"{numbers.size(published.PEAK_RESERVED_BYTES)}, both engines in one process"
    baseline = context["baseline"]
    for key, of in (("peak_reserved_bytes", "of GPU memory"), ("process_peak_bytes", "the whole process")):
        before, after = metrics[f"{baseline}.{key}"], metrics[f"{engine}.{key}"]
        if before is not None and after is not None:
            both = numbers.size_column([before, after])  # one unit, so that the two compare at a glance
            first, second = (f"{cell} {both.unit}" for cell in both.cells)
            return Tile("Peak memory", second, of, claim, [f"{summary.label(baseline)} {first}"])
    return Tile("Peak memory", numbers.MISSING, "not measured", claim)


def setting(context: Row, latency: list[Latency]) -> list[tuple[str, str, str]]:
    """Rows of (what, here, in the notebook): what was run on what."""
    run, model = context["runs"][context["baseline"]], context["model"]
    generation = context["profile"]["content"]["generation"]
    audio_s = sum(row.duration_s or 0.0 for row in latency)
    kind = "GPU" if run["device"] == "cuda" else "CPU"
    cores = (context["environment"] or {}).get("cpu_cores")
    device = run["device_name"] if kind == "GPU" or not cores else f"{run['device_name']}, {cores} cores"
    return [
        ("Model", f"{model['name']}, {numbers.millions(model['parameters'])} parameters", published.MODEL),
        (kind, device, published.HARDWARE),
        ("Speech", f"{numbers.plural(len(latency), 'utterance')}, {numbers.seconds(audio_s)} of audio",
         f"{numbers.plural(published.UTTERANCES, 'utterance')} of {published.DATA}"),
        ("Search", f"{numbers.plural(generation['num_beams'], 'beam')}, at most"
         f" {numbers.plural(generation['max_length'], 'token')}", published.SEARCH),
    ]  # fmt: skip
