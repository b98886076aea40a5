"""What a reader must know before believing the numbers: it stands above them."""

import re
from dataclasses import dataclass, field
from typing import Any

from whisper_speedup.compare.latency import Latency
from whisper_speedup.report import numbers, published
from whisper_speedup.report.summary import label


@dataclass(frozen=True)
class Notice:
    """`serious` when it bears on whether to believe the numbers; `link` is a place on the page, such as #failed."""

    title: str
    lines: list[str] = field(default_factory=list)
    serious: bool = True
    link: str | None = None


def notices(metrics: dict[str, Any], context: dict[str, Any], latency: list[Latency]) -> list[Notice]:
    """The gravest first."""
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
        found.append(Notice("Before you compare these runs", [_named(line, context) for line in context["warnings"]]))
    resumed = [line for engine in context["engines"] if (line := _resumed(engine, context, len(latency)))]
    if resumed:
        last = "Load, warm-up and memory are the last process's."
        resumed.append(f"An utterance keeps the time it was decoded with. {last}")
        found.append(Notice("Interrupted, and continued", resumed))
    truncated = {engine: metrics[f"{engine}.truncated"] for engine in context["engines"]}
    if any(truncated.values()):
        limit = context["profile"]["content"]["generation"]["max_length"]
        lines = [
            f"{label(engine)}: {numbers.plural(n, 'text')} stopped by the limit of {limit} tokens before the end."
            for engine, n in truncated.items()
            if n
        ]
        found.append(Notice("Some texts are cut off", lines, link="#utterances"))
    cut = [row for row in latency if row.cut_from_s is not None]
    if cut:
        lines = [
            f"Whisper hears 30 s at a time: the rest of {numbers.plural(len(cut), 'longer recording')} was left out."
        ]
        found.append(Notice("Some utterances are cut at 30 s", lines, serious=False, link="#utterances"))
    noted = list(dict.fromkeys(row.note for row in latency if row.note))
    if noted:
        lines = [*noted[:5], *([f"{numbers.count(len(noted) - 5)} more."] if len(noted) > 5 else [])]
        found.append(Notice("Some recordings had an imperfect file", lines, serious=False, link="#utterances"))
    setting = _setting(baseline, model, len(latency))
    if setting:
        lines = [*setting, "The published speedup and this one do not measure the same thing."]
        title = "Measured on a CPU" if baseline["device"] == "cpu" else "Not the notebook's setting"
        found.append(Notice(title, lines, serious=False))
    return found


def _named(line: str, context: dict[str, Any]) -> str:
    """A warning of `compare`, with the engines called as everywhere on the page."""
    names = {engine: label(engine) for engine in context["engines"]}
    return re.sub(r"\b(" + "|".join(map(re.escape, names)) + r")\b", lambda found: names[found[0]], line)


def _resumed(engine: str, context: dict[str, Any], total: int) -> str | None:
    """How many utterances processes that were interrupted have left to the last one."""
    sessions = context["runs"][engine].get("resumed_from") or []
    if not sessions:
        return None
    kept = sum(session["rows"] for session in sessions)
    return (
        f"{label(engine)}: {numbers.count(kept)} of {numbers.plural(total, 'utterance')} were timed in"
        f" {numbers.plural(len(sessions), 'earlier process', 'earlier processes')}, from {sessions[0]['started']} on."
    )


def _setting(run: dict[str, Any], model: dict[str, Any], utterances: int) -> list[str]:
    """How this run's setting departs from the notebook's, a line each."""
    lines = []
    if run["device"] == "cpu":
        lines.append(f"These numbers come from {run['device_name']}, the notebook's from {published.HARDWARE}, a GPU.")
    elif "A100-SXM4-40GB" not in run["device_name"]:
        lines.append(f"Measured on {run['device_name']}; the notebook on {published.HARDWARE}.")
    if "large-v2" not in model["name"]:
        lines.append(f"The model is {model['name']}, not {published.MODEL}.")
    if utterances < published.UTTERANCES:
        lines.append(
            f"{numbers.plural(utterances, 'utterance')}, not the {numbers.count(published.UTTERANCES)} of"
            f" {published.DATA}."
        )
    return lines
