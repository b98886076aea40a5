"""The outputs that differ: the notebook's rule (normalised text) and the stricter one (token ids)."""

from itertools import zip_longest
from typing import Any

from whisper_speedup.compare.runs import Result, Run, Utterance
from whisper_speedup.compare.wer import Normaliser, word_errors


def first_divergence(a: list[int], b: list[int]) -> int | None:
    """The position of the first generated token that differs (the end counts as one), None when there is none."""
    for position, (left, right) in enumerate(zip_longest(a, b)):
        if left != right:
            return position
    return None


def differing_rows(
    manifest: list[Utterance], baseline: Run, run: Run, normalise: Normaliser | None
) -> list[dict[str, Any]]:
    """One row for each utterance that both decoded and whose text or tokens differ, in the manifest's order.

    `normalise` is None when the weights are synthetic: then no text is judged by its reference.
    """
    rows = []
    for utterance, ours, theirs in zip(manifest, run.results, baseline.results, strict=True):
        if ours.error is not None or theirs.error is not None:
            continue
        position = first_divergence(theirs.tokens or [], ours.tokens or [])
        if position is None and ours.text == theirs.text:
            continue
        row = {
            "engine": run.engine,
            "id": utterance.id,
            "duration_s": utterance.duration_s,
            "same_text": ours.text == theirs.text,
            "reference": utterance.reference,
            "baseline_text": theirs.text,
            "text": ours.text,
            "baseline_raw_text": theirs.raw_text,
            "raw_text": ours.raw_text,
            "baseline_tokens": theirs.tokens,
            "tokens": ours.tokens,
            "first_divergence": position,
            "words_apart": word_errors(theirs.text or "", ours.text or "").errors,
            "scores": {"baseline": theirs.score, run.engine: ours.score},
            "truncated": {"baseline": theirs.truncated, run.engine: ours.truncated},
        }
        rows.append(row | _judged(utterance, ours, theirs, normalise))
    return rows


def _judged(
    utterance: Utterance, ours: Result, theirs: Result, normalise: Normaliser | None
) -> dict[str, str | int | None]:
    """The normalised reference and how many word errors each hypothesis has against it."""
    if normalise is None or utterance.reference is None:
        return {"reference_text": None, "baseline_word_errors": None, "word_errors": None}
    reference = normalise(utterance.reference)
    return {
        "reference_text": reference,
        "baseline_word_errors": word_errors(reference, normalise(theirs.raw_text or theirs.text or "")).errors,
        "word_errors": word_errors(reference, normalise(ours.raw_text or ours.text or "")).errors,
    }
