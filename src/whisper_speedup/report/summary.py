"""The page in plain words: what was found, and what a reader must know before believing it."""

from dataclasses import dataclass, field
from typing import Any

from whisper_speedup.report import numbers, published

LABELS = {"huggingface": "Hugging Face", "ctranslate2": "CTranslate2"}


@dataclass(frozen=True)
class Notice:
    """Something that stands visibly above the numbers. `serious` when it bears on whether to believe them."""

    title: str
    lines: list[str] = field(default_factory=list)
    serious: bool = True
    link: str | None = None  # a place on the page: "#failed"


def label(engine: str) -> str:
    """How an engine is called in prose."""
    return LABELS.get(engine, engine[:1].upper() + engine[1:].replace("_", " "))


def subject(context: dict[str, Any]) -> str:
    """What the page is about, for a reader who comes to it cold."""
    names = [label(engine) for engine in context["engines"] if engine != context["baseline"]]
    others = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"The same model transcribes the same utterances, one at a time, with {label(context['baseline'])}'s generate"
        f" (the baseline) and with {others}."
    )


def speed(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str:
    """How many times as fast, with the interval and the totals."""
    baseline = label(context["baseline"])
    value, low, high = (metrics[f"{engine}.{key}"] for key in ("speedup", "speedup_low", "speedup_high"))
    pair = context["comparisons"][engine]
    if value is None:
        return f"There is no speedup to give: no utterance was decoded by both {label(engine)} and {baseline}."
    within = f" (95% interval {numbers.interval(low, high)})" if low is not None else ""
    totals = (
        f"{numbers.seconds(pair['total_s'])} of compute instead of {numbers.seconds(pair['baseline_total_s'])}"
        f" for {numbers.plural(pair['utterances'], 'utterance')}"
    )
    if low is not None and low <= 1 <= high:
        return (
            f"{label(engine)} and {baseline} cannot be told apart in speed: {numbers.times(value)}{within}, {totals}."
        )
    if value < 1:
        return (
            f"{label(engine)} is slower than {baseline}: it runs at {numbers.times(value)} its speed{within}, {totals}."
        )
    return f"{label(engine)} is {value:.2f} times as fast as {baseline}{within}: {totals}."


def outputs(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str:
    """How many texts differ, and how many token sequences."""
    total = context["comparisons"][engine]["utterances"]
    texts, tokens = metrics[f"{engine}.different"], metrics[f"{engine}.different_tokens"]
    if total == 0:
        return "No outputs can be compared."
    if texts == 0 and tokens == 0:
        which = "the one utterance" if total == 1 else f"all {numbers.count(total)} utterances"
        return f"The output is the same for {which}, token for token."
    if texts == 0:
        verb = "differs" if tokens == 1 else "differ"
        return f"All texts are the same, but {numbers.count(tokens)} of {numbers.count(total)} {verb} in the tokens."
    verb = "differs" if texts == 1 else "differ"
    return f"{numbers.count(texts)} of {numbers.plural(total, 'output')} {verb} ({numbers.percent(texts / total)})."


def word_errors(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str | None:
    """Word error rates of the two, and the difference with its interval; None when there are none."""
    before, after = metrics[f"{context['baseline']}.wer"], metrics[f"{engine}.wer"]
    if before is None or after is None:
        return None
    difference = context["comparisons"][engine]["wer_difference"]
    if before == after and not difference:
        return f"Both have a word error rate of {numbers.percent(before)}."
    interval = context["comparisons"][engine]["wer_difference_interval"]
    within = f", 95% interval {points_interval(interval)}" if interval else ""
    return (
        f"The word error rate is {numbers.percent(after)} against {numbers.percent(before)}"
        f" ({numbers.points(difference)}{within})."
    )


def points_interval(interval: list[float]) -> str:
    """-0.10 to +0.32 points."""
    return f"{numbers.points(interval[0]).removesuffix(' points')} to {numbers.points(interval[1])}"


def memory(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str | None:
    """Peak memory of the two: the GPU's where there is one, else the process's."""
    for key, of in (("peak_reserved_bytes", "GPU memory"), ("process_peak_bytes", "Memory (the whole process)")):
        before, after = metrics[f"{context['baseline']}.{key}"], metrics[f"{engine}.{key}"]
        if before is not None and after is not None:
            return f"{of} peaks at {numbers.size(after)} against {numbers.size(before)}."
    return None


def notices(metrics: dict[str, Any], context: dict[str, Any], latency: list[dict[str, Any]]) -> list[Notice]:
    """What a reader must see first, the gravest first."""
    found = []
    model, baseline = context["model"], context["runs"][context["baseline"]]
    if not model["trained"]:
        lines = ["Only the times and the memory mean something. The texts are noise and there is no word error rate."]
        found.append(Notice("These weights are random, not trained", lines))
    failed = {engine: metrics[f"{engine}.failed"] for engine in context["engines"]}
    if any(failed.values()):
        lines = [
            f"{label(engine)}: {numbers.plural(n, 'utterance')} without output." for engine, n in failed.items() if n
        ]
        lines.append("Speed and differences are over the utterances that both engines decoded.")
        found.append(Notice("Some utterances have no output", lines, link="#failed"))
    if context["warnings"]:
        found.append(Notice("Before you compare these runs", list(context["warnings"])))
    truncated = {engine: metrics[f"{engine}.truncated"] for engine in context["engines"]}
    if any(truncated.values()):
        limit = context["profile"]["content"]["generation"]["max_length"]
        lines = [
            f"{label(engine)}: {numbers.plural(n, 'text')} stopped by the limit of {limit} tokens before the end."
            for engine, n in truncated.items()
            if n
        ]
        found.append(Notice("Some texts are cut off", lines, link="#utterances"))
    cut = [row for row in latency if row["cut_from_s"] is not None]
    if cut:
        lines = [
            f"Whisper hears 30 s at a time: the rest of {numbers.plural(len(cut), 'longer recording')} was left out."
        ]
        found.append(Notice("Some utterances are cut at 30 s", lines, serious=False, link="#utterances"))
    setting = _setting(baseline, model, len(latency))
    if setting:
        lines = [*setting, "So the published speedup and this one are not measurements of the same thing."]
        found.append(Notice("Not the notebook's setting", lines, serious=False))
    return found


def _setting(run: dict[str, Any], model: dict[str, Any], utterances: int) -> list[str]:
    """How this run's setting departs from the notebook's, a line each."""
    lines = []
    if run["device"] == "cpu":
        lines.append(f"Measured on a CPU ({run['device_name']}); the notebook on a GPU ({published.HARDWARE}).")
    elif "A100-SXM4-40GB" not in run["device_name"]:
        lines.append(f"Measured on {run['device_name']}; the notebook on {published.HARDWARE}.")
    if "large-v2" not in model["name"]:
        lines.append(f"The model is {model['name']}; the notebook's {published.MODEL}.")
    if utterances < published.UTTERANCES:
        lines.append(
            f"{numbers.plural(utterances, 'utterance')}; the notebook has {numbers.count(published.UTTERANCES)}"
            f" ({published.DATA})."
        )
    return lines
