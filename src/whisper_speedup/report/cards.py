"""One card for each output that differs, the worst first."""

import hashlib
from dataclasses import dataclass

from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.evidence import Evidence, worst_first
from whisper_speedup.compare.verdict import BETTER, TIE, WORSE
from whisper_speedup.report import numbers
from whisper_speedup.report.align import Piece, align, joiner, words_apart
from whisper_speedup.report.rates import WORDS, Rate

BADGES = {TIE: "Rounding tie", BETTER: "Better", WORSE: "Worse", None: "Not judged"}
KINDS = {TIE: "tie", BETTER: "better", WORSE: "worse", None: "unknown"}


@dataclass(frozen=True)
class Card:
    """What the template shows of one differing output. `kind` is tie, better, worse or unknown; `facts`
    are (name, text); `joiner` stands between the pieces."""

    anchor: str
    row: str  # the anchor of its row in the table of utterances
    id: str
    engine: str
    label: str
    duration: str
    badge: str
    kind: str
    what: str
    pieces: list[Piece]
    joiner: str
    reference: str | None
    facts: list[tuple[str, str]]
    audio: str | None
    log_mel: str | None
    left_out: str | None


def anchor(kind: str, *names: str) -> str:
    """An id that is safe in a page and stays the same from run to run: u-1a2b3c4d5e."""
    return f"{kind}-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:10]}"


def cards(
    differences: list[Difference],
    evidence: list[Evidence],
    labels: dict[str, str],
    baseline: str,
    limit: int,
    rate: Rate = WORDS,
) -> tuple[list[Card], int]:
    """The cards in the order to read them, and how many more there are than `limit`. `rate` says what errors count."""
    heard = {row.id: row for row in evidence}
    rows = sorted(differences, key=worst_first)
    made = [_card(row, heard.get(row.id), labels, baseline, rate) for row in rows[:limit]]
    return made, max(0, len(rows) - limit)


def _card(row: Difference, heard: Evidence | None, labels: dict[str, str], baseline: str, rate: Rate) -> Card:
    plain = row.same_text and row.baseline_raw_text != row.raw_text
    left, right = (row.baseline_raw_text, row.raw_text) if plain else (row.baseline_text, row.text)
    pieces = align(left or "", right or "", rate)
    ours, theirs = labels[row.engine], labels[baseline]
    facts = [
        ("Full-precision score", _judgement(row, theirs, ours)),
        ("First token that differs", _fork(row, theirs, ours)),
        ("Against the transcript", _transcript(row, theirs, ours, rate)),
        ("Own scores", _own_scores(row, theirs, ours)),
        ("Cut off at the token limit", _cut(row, theirs, ours)),
    ]
    heard = heard or Evidence(id=row.id, audio=None, log_mel=None, left_out="these results hold no recordings")
    return Card(
        anchor=anchor("d", row.engine, row.id),
        row=anchor("u", row.id),
        id=row.id,
        engine=row.engine,
        label=ours,
        duration=numbers.seconds(row.duration_s),
        badge=BADGES[row.verdict],
        kind=KINDS[row.verdict],
        what=_what(row, words_apart(pieces) if rate is WORDS else row.characters_apart or 0, plain, rate),
        pieces=pieces,
        joiner=joiner(rate),
        reference=row.reference_text if row.reference_text is not None else row.reference,
        facts=[(name, text) for name, text in facts if text],
        audio=heard.audio,
        log_mel=heard.log_mel,
        left_out=heard.left_out,
    )


def _what(row: Difference, apart: int, plain: bool, rate: Rate) -> str:
    if not row.same_text:
        return f"{numbers.plural(apart, rate.one)} {'differs' if apart == 1 else 'differ'}"
    return f"same {rate.many}, other punctuation or case" if plain else "same text from other tokens"


def _judgement(row: Difference, baseline: str, engine: str) -> str:
    if row.verdict is None or row.reference_scores is None or row.gap is None:
        return f"not asked: {row.not_judged}"
    before, after, gap = row.reference_scores["baseline"], row.reference_scores[row.engine], row.gap
    scores = f"{baseline} {numbers.score(before)}, {engine} {numbers.score(after)} (log-probability a token)"
    better, limit = (engine if gap > 0 else baseline), numbers.score(row.epsilon or 0.0)
    how = "within" if row.verdict == TIE else "more than"
    return f"{scores}: {better}'s text is {numbers.score(abs(gap))} better, {how} the {limit} that rounding explains"


def _fork(row: Difference, baseline: str, engine: str) -> str | None:
    position = row.first_divergence
    if position is None:
        return None
    fork = row.fork

    def token(key: str, tokens: list[int]) -> str:
        if position >= len(tokens):
            found = "the end"
        elif fork:
            found = f"\N{LEFT DOUBLE QUOTATION MARK}{fork[key].text}\N{RIGHT DOUBLE QUOTATION MARK}"
        else:
            found = f"id {tokens[position]}"
        if fork and fork[key].probability is not None:
            found += f" (probability {numbers.percent(fork[key].probability)})"
        return found

    return (
        f"number {position + 1}: {baseline} {token('baseline', row.baseline_tokens)};"
        f" {engine} {token(row.engine, row.tokens)}"
    )


def _transcript(row: Difference, baseline: str, engine: str, rate: Rate) -> str | None:
    before, after, one = (
        getattr(row, f"baseline_{rate.one}_errors"),
        getattr(row, f"{rate.one}_errors"),
        f"{rate.one} error",
    )
    if before is None:
        return None
    if before == after:
        return f"equally far: {numbers.plural(before, one)} each"
    closer, other = (engine, baseline) if after < before else (baseline, engine)
    return f"{closer} is closer: {numbers.plural(min(before, after), one)}, {other} {max(before, after)}"


def _own_scores(row: Difference, baseline: str, engine: str) -> str | None:
    given = [(baseline, row.scores["baseline"]), (engine, row.scores[row.engine])]
    known = [f"{name} {numbers.score(score)}" for name, score in given if score is not None]
    return ", ".join(known) or None


def _cut(row: Difference, baseline: str, engine: str) -> str | None:
    names = [name for name, key in ((baseline, "baseline"), (engine, row.engine)) if row.truncated[key]]
    return ", ".join(names) or None
