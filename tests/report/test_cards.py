import pytest

from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.evidence import Evidence
from whisper_speedup.report.cards import anchor, cards

LABELS = {"huggingface": "Hugging Face", "fused": "Fused"}


def row(name="clip", **changes):
    return Difference.model_validate({
        "engine": "fused", "id": name, "duration_s": 3.0, "same_text": False, "reference": "A B",
        "reference_text": "a b", "baseline_text": "a b", "text": "a c", "baseline_raw_text": " A b.",
        "raw_text": " A c.",
        "baseline_tokens": [1, 2], "tokens": [1, 3], "first_divergence": 1, "words_apart": 1,
        "scores": {"baseline": None, "fused": -0.2}, "truncated": {"baseline": False, "fused": False},
        "baseline_word_errors": 0, "word_errors": 1, "reference_scores": {"baseline": -0.2, "fused": -0.201},
        "gap": -0.001, "epsilon": 2**-6, "verdict": "rounding tie", "not_judged": None,
        "fork": {"baseline": {"token": 2, "text": " b", "probability": 0.5},
                 "fused": {"token": 3, "text": " c", "probability": 0.25}},
    } | changes)  # fmt: skip


def one(**changes):
    ((card,), _) = cards([row(**changes)], [], LABELS, "huggingface", 10)
    return card, dict(card.facts)


def test_a_tie():
    card, facts = one()
    assert (card.badge, card.kind, card.what) == ("Rounding tie", "tie", "1 word differs")
    assert facts["Full-precision score"] == (
        "Hugging Face \N{MINUS SIGN}0.20000, Fused \N{MINUS SIGN}0.20100 (log-probability a token):"
        " Hugging Face's text is 0.00100 better, within the 0.01562 that rounding explains"
    )
    assert facts["First token that differs"] == (
        "number 2: Hugging Face \N{LEFT DOUBLE QUOTATION MARK} b\N{RIGHT DOUBLE QUOTATION MARK} (probability 50.00%);"
        " Fused \N{LEFT DOUBLE QUOTATION MARK} c\N{RIGHT DOUBLE QUOTATION MARK} (probability 25.00%)"
    )
    assert facts["Against the transcript"] == "Hugging Face is closer: 0 word errors, Fused 1"
    assert facts["Own scores"] == "Fused \N{MINUS SIGN}0.20000"


def test_one_beyond_rounding_says_whose_text_is_better():
    card, facts = one(gap=0.5, verdict="better")
    assert (card.badge, card.kind) == ("Better", "better")
    assert "Fused's text is 0.50000 better, more than the" in facts["Full-precision score"]


def test_one_that_was_not_judged_says_why():
    card, facts = one(verdict=None, gap=None, reference_scores=None, fork=None, not_judged="the weights were gone")
    assert (card.badge, card.kind) == ("Not judged", "unknown")
    assert facts["Full-precision score"] == "not asked: the weights were gone"
    assert facts["First token that differs"] == "number 2: Hugging Face id 2; Fused id 3"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"same_text": True, "text": "a b"}, "same words, other punctuation or case"),
        ({"same_text": True, "text": "a b", "raw_text": " A b."}, "same text from other tokens"),
        ({"text": "c d e"}, "3 words differ"),
    ],
)
def test_what_differs(changes, expected):
    assert one(**changes)[0].what == expected


def test_one_text_that_ends_where_the_other_goes_on():
    end = {"token": None, "text": None, "probability": 0.6}
    _, facts = one(tokens=[1], fork={"baseline": row().fork["baseline"], "fused": end})
    assert facts["First token that differs"].endswith("Fused the end (probability 60.00%)")


def test_the_limit_leaves_out_the_last_and_counts_them():
    rows = [row(str(n), verdict="worse" if n == 2 else "rounding tie") for n in range(4)]
    made, hidden = cards(rows, [], LABELS, "huggingface", 3)
    assert ([card.id for card in made], hidden) == (["2", "0", "1"], 1)


def test_recordings_go_to_their_utterance():
    heard = [Evidence(id="clip", audio="AAAA", log_mel="BBBB", left_out=None)]
    ((card,), _) = cards([row()], heard, LABELS, "huggingface", 10)
    assert (card.audio, card.log_mel, card.left_out) == ("AAAA", "BBBB", None)


def test_an_anchor_is_safe_and_belongs_to_its_utterance():
    assert anchor("d", "fused", '"><script>') != anchor("d", "fused", "other")
    assert anchor("d", "fused", '"><script>').removeprefix("d-").isalnum()
