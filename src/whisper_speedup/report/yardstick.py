"""How often the baseline differs from itself, beside how often the engines differ from it."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.compare.runs import YARDSTICK
from whisper_speedup.report import numbers, summary
from whisper_speedup.report.engines import Figures

Row = dict[str, Any]
VARIANTS = {
    "again": "run again",
    "eager": "eager attention",
    "sdpa": "SDPA attention",
    "autocast": "autocast to fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "tf32": "TF32",
    "float32": "fp32",
    "float64": "fp64",
}


@dataclass(frozen=True)
class Yardstick:
    """`rows` are the keys of `labels` and `places`: the engines, then the variants. `left_out` are (variant, why)."""

    sentence: str
    columns: list[Figures]
    rows: list[str]
    labels: dict[str, str]
    places: dict[str, int]
    left_out: list[tuple[str, str]]


def yardstick(context: Row, metrics: Row, labels: dict[str, str], places: dict[str, int]) -> Yardstick | None:
    """The table and its sentence; None where no variant was decoded."""
    about = context.get("yardstick") or {"variants": [], "left_out": {}}
    if not about["variants"]:
        return None
    baseline = context["baseline"]
    engines = [engine for engine in context["engines"] if engine != baseline]
    variants = [YARDSTICK + name for name in about["variants"]]
    rows = [*engines, *variants]
    totals = {engine: context["comparisons"][engine]["utterances"] for engine in engines}
    totals |= {name: metrics[f"{name}.utterances"] for name in variants}

    def share(key: str) -> list[str]:
        return [f"{numbers.count(metrics[f'{row}.{key}'])} of {numbers.count(totals[row])}" for row in rows]

    def counts(key: str) -> list[str]:
        return [numbers.count(metrics.get(f"{row}.{key}")) for row in rows]

    rare = [("Not judged", "outputs", "not_judged"), ("No output", "utterances", "failed")]
    return Yardstick(
        sentence=sentence(context, metrics),
        columns=[
            Figures("Texts that differ", "of those compared", share("different"), strong=True),
            Figures("Token ids that differ", "of those compared", share("different_tokens")),
            Figures("Rounding ties", "outputs", counts("rounding_ties")),
            Figures("Better", "outputs", counts("better")),
            Figures("Worse", "outputs", counts("worse")),
            *(Figures(title, unit, counts(key)) for title, unit, key in rare
              if any(metrics.get(f"{row}.{key}") for row in rows)),
        ],
        rows=rows,
        labels={**labels, **{name: f"{labels[baseline]}, {called(name)}" for name in variants}},
        places={**places, **dict.fromkeys(variants, places[baseline])},
        left_out=[(called(name), reason.removesuffix(".")) for name, reason in sorted(about["left_out"].items())],
    )  # fmt: skip


def called(variant: str) -> str:
    """A variant in words: eager attention, fp16, 1 thread."""
    name = variant.removeprefix(YARDSTICK)
    if name.startswith("threads_"):
        return numbers.plural(int(name.removeprefix("threads_")), "thread")
    return VARIANTS[name]


def sentence(context: Row, metrics: Row) -> str:
    """How many texts each variant changes."""
    names = context["yardstick"]["variants"]
    how = {name: f"{'when' if name == 'again' else 'with'} {called(name)}" for name in names}
    parts = [f"{numbers.count(metrics[f'{YARDSTICK}{name}.different'])} {how[name]}" for name in names]
    total = max(metrics[f"{YARDSTICK}{name}.utterances"] for name in names)
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"Of {numbers.plural(total, 'text')} {summary.label(context['baseline'])} changes {listed}."


def span(context: Row, metrics: Row) -> str | None:
    """The fewest and the most texts that a variant changes, for the first screen; None where none was decoded."""
    names = (context.get("yardstick") or {"variants": []})["variants"]
    if not names:
        return None
    found = [metrics[f"{YARDSTICK}{name}.different"] for name in names]
    least, most = numbers.count(min(found)), numbers.count(max(found))
    found_in = least if least == most else f"{least} to {most}"
    return f"{summary.label(context['baseline'])} differs from itself in {found_in}"
