import pytest

from whisper_speedup.report import summary

CONTEXT = {"baseline": "huggingface", "engines": ["huggingface", "fused"]}


def speed(value, low, high, utterances=13):
    metrics = {"fused.speedup": value, "fused.speedup_low": low, "fused.speedup_high": high}
    pair = {"utterances": utterances, "baseline_total_s": 30.0, "total_s": 10.0}
    return summary.speed(metrics, CONTEXT | {"comparisons": {"fused": pair}}, "fused")


def test_faster():
    assert speed(3.0, 2.8, 3.2) == (
        "Fused is 3.00 times as fast as Hugging Face (95% interval 2.80 to 3.20):"
        " 10.0 s of compute instead of 30.0 s for 13 utterances."
    )


def test_slower_the_same_alone_and_nothing():
    assert speed(0.5, 0.4, 0.6).startswith("Fused is slower than Hugging Face: it runs at 0.50")
    assert "cannot be told apart" in speed(1.02, 0.97, 1.06)
    assert "interval" not in speed(3.0, None, None, utterances=1)
    assert speed(None, None, None, utterances=0).startswith("There is no speedup")


@pytest.mark.parametrize(
    ("total", "texts", "tokens", "sentence"),
    [
        (13, 0, 0, "The output is the same for all 13 utterances, token for token."),
        (1, 0, 0, "The output is the same for the one utterance, token for token."),
        (13, 0, 1, "All texts are the same, but 1 of 13 differs in the tokens."),
        (13, 1, 1, "1 of 13 outputs differs (7.69%)."),
        (2620, 37, 40, "37 of 2,620 outputs differ (1.41%)."),
        (0, 0, 0, "No outputs can be compared."),
    ],
)
def test_outputs(total, texts, tokens, sentence):
    metrics = {"fused.different": texts, "fused.different_tokens": tokens}
    context = CONTEXT | {"comparisons": {"fused": {"utterances": total}}}
    assert summary.outputs(metrics, context, "fused") == sentence


def test_word_errors():
    pair = {"wer_difference": 0.01, "wer_difference_interval": [-0.001, 0.02]}
    context = CONTEXT | {"comparisons": {"fused": pair}}
    assert summary.word_errors({"huggingface.wer": 0.05, "fused.wer": 0.06}, context, "fused") == (
        "The word error rate is 6.00% against 5.00% (+1.00 points, 95% interval \N{MINUS SIGN}0.10 to +2.00 points)."
    )
    pair["wer_difference"] = 0.0
    assert "Both" in summary.word_errors({"huggingface.wer": 0.05, "fused.wer": 0.05}, context, "fused")
    assert summary.word_errors({"huggingface.wer": None, "fused.wer": None}, context, "fused") is None
