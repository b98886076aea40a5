"""The outputs that differ: the notebook's rule (normalised text) and the stricter one (token ids)."""

from itertools import zip_longest

from whisper_speedup.audio.row import Row
from whisper_speedup.compare.runs import Run
from whisper_speedup.compare.wer import Normaliser, character_errors, unspaced, word_errors
from whisper_speedup.compare.writing import Unit
from whisper_speedup.disk.records import Record
from whisper_speedup.run.rows import Result


class Fork(Record):
    """The token that a hypothesis takes where it parts from the other, its text (null: the end) and its probability."""

    token: int | None
    text: str | None
    probability: float | None


class Difference(Record):
    """A row of differences.jsonl: an utterance whose text or tokens differ from the baseline's.

    `first_divergence`: the position of the first token that differs. The keys with `character` are there for languages
    without spaces. From `reference_scores` on it is rescore.py's: `gap` is the engine's score less the baseline's,
    above 0 where the reference prefers the engine's text, and `not_judged` says why there is no verdict.
    """

    engine: str
    id: str
    duration_s: float | None
    same_text: bool
    reference: str | None
    baseline_text: str | None
    text: str | None
    baseline_raw_text: str | None
    raw_text: str | None
    baseline_tokens: list[int]
    tokens: list[int]
    first_divergence: int | None
    words_apart: int
    scores: dict[str, float | None]
    truncated: dict[str, bool | None]
    characters_apart: int | None = None
    reference_text: str | None = None
    baseline_word_errors: int | None = None
    word_errors: int | None = None
    baseline_character_errors: int | None = None
    character_errors: int | None = None
    reference_scores: dict[str, float] | None = None
    gap: float | None = None
    epsilon: float | None = None
    verdict: str | None = None
    not_judged: str | None = None
    fork: dict[str, Fork] | None = None


def first_divergence(a: list[int], b: list[int]) -> int | None:
    """The position of the first generated token that differs (the end counts as one), None when there is none."""
    for position, (left, right) in enumerate(zip_longest(a, b)):
        if left != right:
            return position
    return None


def differing_rows(
    manifest: list[Row], baseline: Run, run: Run, normalise: Normaliser | None, unit: Unit = "word"
) -> list[Difference]:
    """One row for each utterance that both decoded and whose text or tokens differ, in the manifest's order.

    `normalise` is None when the weights are synthetic: then no text is judged by its reference. Where `unit` is the
    character, spaces make no difference, and a row counts characters beside words.
    """
    rows = []
    for utterance, ours, theirs in zip(manifest, run.results, baseline.results, strict=True):
        if ours.error is not None or theirs.error is not None:
            continue
        position = first_divergence(theirs.tokens or [], ours.tokens or [])
        same = _same(theirs.text or "", ours.text or "", unit)
        if position is None and same:
            continue
        row = Difference(
            engine=run.engine, id=utterance.id, duration_s=utterance.duration_s, same_text=same,
            reference=utterance.reference, baseline_text=theirs.text, text=ours.text,
            baseline_raw_text=theirs.raw_text, raw_text=ours.raw_text, baseline_tokens=theirs.tokens or [],
            tokens=ours.tokens or [], first_divergence=position,
            words_apart=word_errors(theirs.text or "", ours.text or "").errors,
            scores={"baseline": theirs.score, run.engine: ours.score},
            truncated={"baseline": theirs.truncated, run.engine: ours.truncated},
            **_judged(utterance, ours, theirs, normalise, unit),
        )  # fmt: skip
        if unit == "character":
            row = row.but(characters_apart=character_errors(theirs.text or "", ours.text or "").errors)
        rows.append(row)
    return rows


def _same(left: str, right: str, unit: Unit) -> bool:
    return left == right if unit == "word" else unspaced(left) == unspaced(right)


def _judged(
    utterance: Row, ours: Result, theirs: Result, normalise: Normaliser | None, unit: Unit
) -> dict[str, str | int | None]:
    """The normalised reference and how many errors each hypothesis has against it."""
    counters = {"word": word_errors} | ({"character": character_errors} if unit == "character" else {})
    if normalise is None or utterance.reference is None:
        nothing = {key: None for kind in counters for key in (f"baseline_{kind}_errors", f"{kind}_errors")}
        return {"reference_text": None, **nothing}
    reference = normalise(utterance.reference)
    row: dict[str, str | int | None] = {"reference_text": reference}
    for kind, count in counters.items():
        for key, result in ((f"baseline_{kind}_errors", theirs), (f"{kind}_errors", ours)):
            row[key] = count(reference, normalise(result.raw_text or result.text or "")).errors
    return row
