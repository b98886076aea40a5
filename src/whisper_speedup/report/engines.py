"""The table of engines, and the table beside the notebook's numbers."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.compare.latency import Latency
from whisper_speedup.report import numbers, published
from whisper_speedup.report.charts.times import fit
from whisper_speedup.report.numbers import MISSING, Column
from whisper_speedup.report.rates import rates
from whisper_speedup.report.summary import is_batched

Row = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """A column of the table of engines: `cells` in the engines' order, `note` what the head's words leave open."""

    title: str
    unit: str
    cells: list[str]
    strong: bool = False


def speed_table(context: Row, metrics: Row, latency: list[Latency]) -> list[Figures]:
    """How fast each engine is and what it costs, the baseline first."""
    names, baseline = context["engines"], context["baseline"]

    def of(key: str) -> list[Any]:
        return [metrics.get(f"{name}.{key}") for name in names]

    speedups = [1.0 if name == baseline else metrics[f"{name}.speedup"] for name in names]
    spans = zip(of("speedup_low"), of("speedup_high"), strict=True)
    intervals = [numbers.interval(low, high) for low, high in spans]
    middle = numbers.seconds_column([*of("median_s"), *of("p95_s")])
    steps, fitted = _steps(context, latency)
    on_gpu = any(value is not None for value in of("peak_reserved_bytes"))
    memory = numbers.size_column(of("peak_reserved_bytes" if on_gpu else "process_peak_bytes"))
    total, warmup = numbers.seconds_column(of("total_s")), numbers.seconds_column(of("warmup_s"))
    energy = of("energy_per_audio_hour_wh")
    wrong = {rate.short: [None if value is None else 100 * value for value in of(rate.key)] for rate in rates(context)}
    return [
        Figures("Speed", f"{numbers.TIMES} baseline", [numbers.times(value) for value in speedups], strong=True),
        Figures("95% over utterances", numbers.TIMES, intervals),
        _figures("Total", total),
        Figures("Median", middle.unit, middle.cells[: len(names)]),
        Figures("95th percentile", middle.unit, middle.cells[len(names) :]),
        Figures("RTFx", f"{numbers.TIMES} real time", numbers.number_column(of("rtfx")).cells),
        *([Figures("RTFx, all counted", f"{numbers.TIMES} real time", numbers.number_column(of("wall_rtfx")).cells)]
          if _once(context) and any(value is not None for value in of("wall_rtfx")) else []),
        Figures("One token" if fitted else "One step", steps.unit, steps.cells),
        _figures("Warm-up", warmup),
        *([Figures("Energy, GPU board", "Wh for an hour of audio", numbers.number_column(energy).cells)]
          if any(value is not None for value in energy) else []),
        Figures(f"Peak memory, {'GPU' if on_gpu else 'process'}", memory.unit, memory.cells),
        Figures("Texts that differ", "of those compared", _differing(context, metrics, "different")),
        *(Figures(short, "%", numbers.number_column(shares, decimals=2).cells) for short, shares in wrong.items()),
    ]  # fmt: skip


def _once(context: Row) -> bool:
    """Whether each utterance was decoded once: else the time from audio to text holds its repeats."""
    return bool(context["profile"]["content"]["measure"]["repeats"] == 1)


def _figures(title: str, column: Column) -> Figures:
    return Figures(title, column.unit, column.cells)


def _steps(context: Row, latency: list[Latency]) -> tuple[Column, bool]:
    """Seconds of a step as the engines report it; where none does, of one more token, fitted to the utterances."""
    reported = [(context["runs"][name].get("breakdown") or {}).get("step_s") for name in context["engines"]]
    if any(value is not None for value in reported):
        return numbers.seconds_column(reported), False
    lines = [None if is_batched(context, name) else fit(latency, name) for name in context["engines"]]
    return numbers.seconds_column([found[0] if found else None for found in lines]), True


def _differing(context: Row, metrics: Row, key: str) -> list[str]:
    return [
        MISSING
        if name == context["baseline"]
        else f"{numbers.count(metrics[f'{name}.{key}'])} of {numbers.count(context['comparisons'][name]['utterances'])}"
        for name in context["engines"]
    ]


def output_table(context: Row, metrics: Row) -> list[Figures]:
    """What each engine wrote, and what the fp32 reference and the transcripts make of it."""
    names = context["engines"]

    def counts(key: str) -> list[str]:
        return [numbers.count(metrics.get(f"{name}.{key}")) for name in names]

    rate = rates(context)[0]

    def errors(key: str) -> list[str]:
        found = [context[rate.key][name] for name in names]
        return [numbers.count(row[key]) if row[rate.many] else MISSING for row in found]

    load = numbers.seconds_column([context["runs"][name].get("load_s") for name in names])
    process = numbers.size_column([metrics[f"{name}.process_peak_bytes"] for name in names])
    return [
        Figures("Token ids that differ", "of those compared", _differing(context, metrics, "different_tokens")),
        Figures("Rounding ties", "outputs", counts("rounding_ties")),
        Figures("Better", "outputs", counts("better")),
        Figures("Worse", "outputs", counts("worse")),
        Figures("Substituted", rate.many, errors("substitutions")),
        Figures("Inserted", rate.many, errors("insertions")),
        Figures("Deleted", rate.many, errors("deletions")),
        Figures("Reference", rate.many, errors(rate.many)),
        Figures("Cut off", "texts", counts("truncated")),
        Figures("No output", "utterances", counts("failed")),
        _figures("Load", load),
        Figures("Peak of the process", process.unit, process.cells),
    ]


def claims(context: Row, metrics: Row, engine: str) -> list[tuple[str, str, str, str, str]]:
    """Rows of (what, baseline here, engine here, the notebook's baseline, the notebook's Kernl)."""
    baseline, pair = context["baseline"], context["comparisons"][engine]
    n, total = published.UTTERANCES, pair["utterances"]
    low, high = metrics[f"{engine}.speedup_low"], metrics[f"{engine}.speedup_high"]
    interval = f" ({numbers.interval(low, high)})" if low is not None else ""
    on_gpu = metrics[f"{baseline}.peak_reserved_bytes"] is not None
    key = "peak_reserved_bytes" if on_gpu else "process_peak_bytes"

    def mean(seconds: float | None) -> str:
        return numbers.seconds(seconds / total if seconds is not None and total else None)

    def both(name: str, form: Any) -> tuple[str, str]:
        return form(metrics[f"{baseline}.{name}"]), form(metrics[f"{engine}.{name}"])

    different, before_s, after_s = metrics[f"{engine}.different"], pair["baseline_total_s"], pair["total_s"]
    share = f" ({numbers.percent(different / total)})" if total else ""
    theirs_s, kernl_s, once = published.BASELINE_TOTAL_S, published.TOTAL_S, f"1{numbers.TIMES}"
    speed = f"{numbers.times(metrics[f'{engine}.speedup'])}{interval}"
    peak = f"{numbers.size(published.PEAK_RESERVED_BYTES)}, both in one process"
    seconds = numbers.seconds
    return [
        ("Speed, sum over all utterances", once, speed, once, f"{published.SPEEDUP}{numbers.TIMES}"),
        ("Compute time, sum", seconds(before_s), seconds(after_s), seconds(theirs_s), seconds(kernl_s)),
        ("Compute time, mean", mean(before_s), mean(after_s), seconds(theirs_s / n), seconds(kernl_s / n)),
        ("Outputs that differ", MISSING, f"{numbers.count(different)} of {numbers.count(total)}{share}", MISSING,
         f"{published.DIFFERENT} of {numbers.count(n)} ({numbers.percent(published.DIFFERENT / n)})"),
        *((rate.name, *both(rate.key, numbers.percent), "not given", "not given") for rate in rates(context)),
        ("Warm-up", *both("warmup_s", seconds), "not given", seconds(published.WARMUP_S)),
        (f"Peak memory, {'GPU' if on_gpu else 'process'}", *both(key, numbers.size), "not given", peak),
    ]  # fmt: skip
