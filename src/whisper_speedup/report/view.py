"""What the template shows: the numbers of the small files, chosen, ordered and put into words. No markup here."""

from collections.abc import Sequence
from typing import Any

from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.evidence import Evidence
from whisper_speedup.compare.latency import Latency
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.params.profile import ReportParams
from whisper_speedup.report import engines, numbers, published, summary, trust
from whisper_speedup.report.cards import cards
from whisper_speedup.report.mask import mask
from whisper_speedup.report.memory import memory
from whisper_speedup.report.notices import notices
from whisper_speedup.report.rates import rates, writing
from whisper_speedup.report.rounds import rounds
from whisper_speedup.report.speed import speed
from whisper_speedup.report.throughput import throughput
from whisper_speedup.report.tiles import setting, tiles
from whisper_speedup.report.utterances import failed, utterances
from whisper_speedup.report.yardstick import yardstick

Row = dict[str, Any]


def view(
    context: Row,
    metrics: Row,
    differences: list[Difference],
    evidence: list[Evidence],
    latency: list[Latency],
    settings: ReportParams,
    curve: Sequence[Row] = (),
) -> Row:
    """The template's variables. `context`, `metrics` and the rows are as `compare` writes them; `curve` as
    benchmarks/scaling.py does."""
    names, baseline = context["engines"], context["baseline"]
    others = [engine for engine in names if engine != baseline]
    compared = summary.compared(context)
    labels = {engine: summary.label(engine) for engine in names}
    first = summary.first_engine(context)
    # A card for each difference of an engine; those of the baseline's variants are counted in `yardstick`.
    of_engines = [row for row in differences if row.engine in labels]
    made, hidden = cards(of_engines, evidence, labels, baseline, settings.max_differences, rates(context)[0])
    places = summary.places(context)
    return {
        "title": settings.title,
        "subject": summary.subject(context),
        "sentence": summary.sentence(metrics, context, first),
        "tiles": tiles(context, metrics, first),
        "setting": setting(context, latency),
        "notices": notices(metrics, context, latency),
        "claims": engines.claims(context, metrics, first),
        "speed_table": engines.speed_table(context, metrics, latency),
        "output_table": engines.output_table(context, metrics),
        "speed": speed(context, metrics, latency),
        "rounds": rounds(context, metrics),
        "throughput": throughput(context, metrics, list(curve)),
        "memory": memory(context),
        "labels": labels,
        "baseline": baseline,
        "others": others,
        "compared": compared[1:],
        "first": first,
        "places": places,
        "cards": made,
        "cards_hidden": hidden,
        "differing": [(summary.label(e), summary.outputs(metrics, context, e), summary.verdicts(metrics, e))
                      for e in others],
        "rescoring": context.get("rescoring"),
        "mask": mask(context, metrics, differences),
        "limits": {name: numbers.score(limit) for name, limit in EPSILON.items()},
        "yardstick": yardstick(context, metrics, labels, places),
        "failed": failed(latency, labels),
        "utterances": utterances(latency, baseline, compared[1:], made),
        "references": context["wer"][baseline]["utterances"],
        "rate": rates(context)[0],
        "writing": writing(context),
        "published": published,
        "context": context,
        "trust": trust.engines(context),
        "environment": trust.flat(context["environment"]),
        "conditions": trust.conditions(context, metrics),
        "energy": any(metrics.get(f"{engine}.energy_per_audio_hour_wh") is not None for engine in names),
    }  # fmt: skip
