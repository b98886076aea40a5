import pytest

from whisper_speedup.report import summary

CONTEXT = {"baseline": "huggingface", "engines": ["huggingface", "fused"], "model": {"trained": True}}


def sentence(value, low, high, utterances=13, trained=True, **changes):
    metrics = {
        "fused.speedup": value, "fused.speedup_low": low, "fused.speedup_high": high, "fused.different": 0,
        "fused.different_tokens": 0,
    } | {f"fused.{key}": value for key, value in changes.items()}  # fmt: skip
    pair = {"utterances": utterances}
    context = CONTEXT | {"comparisons": {"fused": pair}, "model": {"trained": trained}}
    return summary.sentence(metrics, context, "fused")


def test_faster_with_the_same_text():
    assert sentence(3.0, 2.8, 3.2) == (
        "Fused transcribes the same 13 utterances 3.00 times as fast as Hugging Face, and every text is the same."
    )


def test_differences_and_what_the_reference_makes_of_them():
    judged = {"rounding_ties": 39, "better": 0, "worse": 1}
    assert sentence(3.0, 2.8, 3.2, 2620, different=37, different_tokens=40, **judged).endswith(
        "Hugging Face. 37 of 2,620 outputs differ (1.41%), 3 more only in the tokens: 39 rounding ties, 1 worse."
    )
    assert sentence(3.0, 2.8, 3.2, 13, different=1, different_tokens=1).endswith("1 of 13 outputs differs (7.69%).")
    assert sentence(3.0, 2.8, 3.2, 13, different_tokens=2).endswith(
        "and every text is the same, 2 of them from other tokens."
    )


def test_slower_the_same_alone_and_nothing():
    assert "is slower than Hugging Face: it transcribes the same 13 utterances at 0.50" in sentence(0.5, 0.4, 0.6)
    assert "cannot be told apart in speed" in sentence(1.02, 0.97, 1.06)
    assert sentence(3.0, None, None, 1) == (
        "Fused transcribes the utterance 3.00 times as fast as Hugging Face, and the text is the same."
    )
    assert sentence(None, None, None, 0).startswith("There is no speedup")


def test_random_weights_have_no_text_to_speak_of():
    assert sentence(3.0, 2.8, 3.2, trained=False, different=9).endswith(
        "Its weights are random, so the texts mean nothing."
    )


@pytest.mark.parametrize(
    ("total", "texts", "tokens", "words"),
    [
        (13, 0, 0, "The output is the same for all 13 utterances, token for token."),
        (1, 0, 0, "The output is the same for the one utterance, token for token."),
        (13, 0, 1, "All texts are the same, but 1 of 13 differs in the tokens."),
        (13, 1, 1, "1 of 13 outputs differs (7.69%)."),
        (2620, 37, 40, "37 of 2,620 outputs differ (1.41%), 3 more only in the tokens."),
        (0, 0, 0, "No outputs can be compared."),
    ],
)
def test_outputs(total, texts, tokens, words):
    metrics = {"fused.different": texts, "fused.different_tokens": tokens}
    context = CONTEXT | {"comparisons": {"fused": {"utterances": total}}}
    assert summary.outputs(metrics, context, "fused") == words


def test_ours_is_what_the_first_screen_is_about():
    assert summary.first_engine(CONTEXT | {"engines": ["huggingface", "ctranslate2", "fused"]}) == "fused"
    assert summary.first_engine(CONTEXT | {"engines": ["huggingface", "ctranslate2"]}) == "ctranslate2"


def test_the_subject_says_what_the_name_of_an_engine_cannot():
    said = summary.subject(CONTEXT | {"engines": ["huggingface", "ctranslate2", "fused"]})
    assert "CTranslate2 (another engine, in C++) and Fused (this repository's own engine)" in said
