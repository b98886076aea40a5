"""The page in plain words: what was found, in sentences that hold for every outcome."""

from typing import Any

from whisper_speedup.params.engines import RUNG
from whisper_speedup.report import numbers

LABELS = {
    "huggingface": "Hugging Face", "compiled": "torch.compile", "ctranslate2": "CTranslate2",
    "ctranslate2_int8": "CTranslate2 int8", "fused_int8": "Fused int8", "fused_fp8": "Fused fp8", "kernl": "Kernl port",
    "kernl_upstream": "Genuine Kernl", "kernl_phantom": "Kernl's mask",
}  # fmt: skip
# What a stranger cannot know from the name.
DESCRIPTIONS = {
    "fused": "this repository's own engine",
    "fused_int8": "the same with the decoder's weights in int8",
    "fused_fp8": "the same with the decoder's weights in fp8",
    "fused_batch": "the same with many utterances at once",
    "compiled": "transformers with its static cache and compiled forwards",
    "ctranslate2": "another engine, in C++",
    "ctranslate2_int8": "the same with int8 weights",
    "kernl": "Kernl's way, with this repository's code",
    "kernl_phantom": "this repository's decoder with one fault of Kernl's, run for its text and not for speed",
}


def is_rung(engine: str) -> bool:
    """Whether an engine is a rung of the ladder: our engine with parts of it left out."""
    return engine.startswith(RUNG)


def is_batched(context: dict[str, Any], engine: str) -> bool:
    """Whether an engine had many utterances in flight, so that an utterance's seconds are not its own."""
    run = context.get("runs", {}).get(engine, {})
    return bool((run.get("throughput") or {}).get("batched"))


def compared(context: dict[str, Any]) -> list[str]:
    """The baseline and the engines to be compared with it utterance by utterance: the rungs, and what decodes many at
    once, only where there are none other, for those have a picture and a section of their own.
    """
    names: list[str] = context["engines"]
    whole = [engine for engine in names if not is_rung(engine) and not is_batched(context, engine)]
    return whole if len(whole) > 1 else names


def places(context: dict[str, Any]) -> dict[str, int]:
    """Each engine's place among the colours: those that are compared first, so that a picture of them agrees."""
    shown = compared(context)
    ordered = [*shown, *(engine for engine in context["engines"] if engine not in shown)]
    return {engine: place % 8 for place, engine in enumerate(ordered)}


def label(engine: str) -> str:
    """How an engine is called in prose."""
    if is_rung(engine):
        words = engine.removeprefix(RUNG).replace("_", " ").replace("cross attention", "cross-attention")
        return f"Rung {words}"
    return LABELS.get(engine, engine[:1].upper() + engine[1:].replace("_", " "))


def first_engine(context: dict[str, Any]) -> str:
    """The engine that the first screen is about: ours where it ran, else the first beside the baseline."""
    others = [engine for engine in context["engines"] if engine != context["baseline"]]
    alone = [engine for engine in others if not is_batched(context, engine)]
    return "fused" if "fused" in others else [*alone, *others][0]


def subject(context: dict[str, Any]) -> str:
    """What the page is about, for a reader who comes to it cold."""
    names = [
        f"{label(engine)} ({DESCRIPTIONS[engine]})" if engine in DESCRIPTIONS else label(engine)
        for engine in compared(context)
        if engine != context["baseline"]
    ]
    others = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    left = [engine for engine in context["engines"] if engine not in compared(context)]
    rungs = sum(is_rung(engine) for engine in left)
    many = [label(engine) for engine in left if not is_rung(engine)]
    between = f" {numbers.plural(rungs, 'more run')} climb from one to the other: our engine with parts of it left out."
    return (
        "One Whisper speech recognition model, the same recordings, one at a time: decoded by"
        f" {label(context['baseline'])} transformers (the baseline) and by {others}.{between if rungs else ''}"
        f"{f' {many[0]} decodes many at once.' if many else ''}"
    )


def sentence(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str:
    """The whole page in one sentence or two: speed, then text."""
    baseline, name = label(context["baseline"]), label(engine)
    value, low, high = (metrics[f"{engine}.{key}"] for key in ("speedup", "speedup_low", "speedup_high"))
    total = context["comparisons"][engine]["utterances"]
    if value is None:
        return f"There is no speedup to give: no utterance was decoded by both {name} and {baseline}."
    which = "the utterance" if total == 1 else f"the same {numbers.plural(total, 'utterance')}"
    in_turns = metrics.get(f"{engine}.speedup_rounds_low"), metrics.get(f"{engine}.speedup_rounds_high")
    if any(a is not None and b is not None and a <= 1 <= b for a, b in ((low, high), in_turns)):
        found = f"{name} and {baseline} cannot be told apart in speed on {which}"
    elif value < 1:
        found = f"{name} is slower than {baseline}: it transcribes {which} at {numbers.times(value)} its speed"
    else:
        found = f"{name} transcribes {which} {numbers.factor(value)} times as fast as {baseline}"
    return f"{found}{_and_text(metrics, context, engine)}"


def _and_text(metrics: dict[str, Any], context: dict[str, Any], engine: str) -> str:
    total = context["comparisons"][engine]["utterances"]
    texts, tokens = metrics[f"{engine}.different"], metrics[f"{engine}.different_tokens"]
    if not context["model"]["trained"]:
        return ". Its weights are random, so the texts mean nothing."
    if texts == 0 and tokens == 0:
        return "." if total == 0 else ", and the text is the same." if total == 1 else ", and every text is the same."
    if texts == 0:
        return f", and every text is the same, {numbers.count(tokens)} of them from other tokens."
    judged = verdicts(metrics, engine)
    return f". {outputs(metrics, context, engine).removesuffix('.')}{f': {judged}' if judged else ''}."


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
    more = f", {numbers.count(tokens - texts)} more only in the tokens" if tokens > texts else ""
    return (
        f"{numbers.count(texts)} of {numbers.plural(total, 'output')} {verb} ({numbers.percent(texts / total)}){more}."
    )


def verdicts(metrics: dict[str, Any], engine: str) -> str | None:
    """What the fp32 reference makes of the differing outputs; None where it judged none."""
    ties, better, worse = (metrics.get(f"{engine}.{key}") for key in ("rounding_ties", "better", "worse"))
    if ties is None or better is None or worse is None or not ties + better + worse:
        return None
    found = [numbers.plural(ties, "rounding tie")] if ties else []
    found += [f"{numbers.count(n)} {name}" for n, name in ((better, "better"), (worse, "worse")) if n]
    return ", ".join(found)


def points_interval(interval: list[float] | None) -> str | None:
    """-0.10 to +0.32 points."""
    if not interval:
        return None
    return f"{numbers.points(interval[0]).removesuffix(' points')} to {numbers.points(interval[1])}"
