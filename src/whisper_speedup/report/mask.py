"""What Kernl's mask of cross-attention keys did to the texts of this run, beside what rounding did.

The engine `kernl_phantom` is our decoder with that mask and no other change (docs/kernl-accuracy.md).
"""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.compare.differences import Difference
from whisper_speedup.report import numbers, summary
from whisper_speedup.report.rates import rates

Row = dict[str, Any]
MASKED = "kernl_phantom"
# What sets each engine apart from the baseline, beside its speed. The first two mask rightly and search as it does.
ROUNDED = ("fused", "kernl")
APART = {
    "fused": "rounding",
    "kernl": "rounding",
    MASKED: "the mask, and rounding",
    "kernl_upstream": "the mask, rounding, and an older transformers",
}


@dataclass(frozen=True)
class Mask:
    """The section: `sentences` of what was found, and a row an engine of (engine, what is different, cells)."""

    sentences: list[str]
    columns: list[str]
    rows: list[tuple[str, str, list[str]]]


def mask(context: Row, metrics: Row, differences: list[Difference]) -> Mask | None:
    """The section's content, or None for a run without the engine."""
    if MASKED not in context["engines"]:
        return None
    baseline = context["baseline"]
    shown = [engine for engine in context["engines"] if engine in APART]
    columns = [
        "Other tokens",
        "Other text",
        "Rounding ties",
        "To look at",
        f"{rates(context)[0].one.capitalize()} errors",
    ]
    rows = [(baseline, "the reference", [*[numbers.MISSING] * 4, _errors(context, baseline)])]
    rows += [(engine, APART[engine], _cells(context, metrics, engine)) for engine in shown]
    return Mask(_sentences(context, metrics, differences), columns, rows)


def _cells(context: Row, metrics: Row, engine: str) -> list[str]:
    total = numbers.count(context["comparisons"][engine]["utterances"])
    changed = [f"{numbers.count(metrics[f'{engine}.{key}'])} of {total}" for key in ("different_tokens", "different")]
    judged = [numbers.count(metrics.get(f"{engine}.{key}")) for key in ("rounding_ties", "to_look_at")]
    return [*changed, *judged, _errors(context, engine)]


def _errors(context: Row, engine: str) -> str:
    rate = rates(context)[0]
    found = context[rate.key][engine]
    if not found[rate.many]:
        return numbers.MISSING
    errors = sum(found[key] for key in ("substitutions", "insertions", "deletions"))
    return f"{numbers.count(errors)} of {numbers.count(found[rate.many])}"


def _sentences(context: Row, metrics: Row, differences: list[Difference]) -> list[str]:
    changed = {engine: {row.id for row in differences if row.engine == engine} for engine in APART}
    masked = changed[MASKED]
    rounded = [engine for engine in ROUNDED if engine in context["engines"]]
    names = " or ".join(summary.label(engine) for engine in rounded)
    found = [f"With the mask: {_in_a_sentence(summary.outputs(metrics, context, MASKED))}"]
    if not rounded:
        found.append("What rounding alone changes is not known from this run: add engine fused or kernl to it.")
    for engine in rounded:
        found.append(
            f"With the right mask, {summary.label(engine)}: {_in_a_sentence(summary.outputs(metrics, context, engine))}"
        )
    if rounded and masked:
        alone = len(masked.difference(*(changed[engine] for engine in rounded)))
        which = "the one output" if len(masked) == 1 else f"the {numbers.count(len(masked))} outputs"
        found.append(f"Of {which} that the mask's run changed, {_none(len(masked) - alone)} changed in {names}.")
    rate = rates(context)[0]
    difference = context["comparisons"][MASKED][f"{rate.key}_difference"]
    if difference is not None:
        before, after = (metrics[f"{engine}.{rate.key}"] for engine in (context["baseline"], MASKED))
        found.append(
            f"{rate.name}: {numbers.percent(before)} without the mask, {numbers.percent(after)} with it"
            f" ({numbers.points(difference)})."
        )
    if "kernl_upstream" in context["engines"] and changed["kernl_upstream"]:
        theirs = changed["kernl_upstream"]
        found.append(
            f"Genuine Kernl changed {numbers.plural(len(theirs), 'output')}; the mask alone changed"
            f" {_none(len(theirs & masked))} of them."
        )
    if not context["model"]["trained"]:
        found.append("The weights are random, so this says nothing of the mask on speech.")
    return found


def _none(count: int) -> str:
    return numbers.count(count) if count else "none"


def _in_a_sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
