"""The judge against transformers' own beam search: the same hypothesis must have the same score."""

from typing import Any

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.compare.judge import Hypothesis, Judge, ieee_fp32

EOS, START = 1, 2


def searched(model: Any, features: torch.Tensor, **settings: Any) -> tuple[list[int], float]:
    """The generated ids, end-of-text included where it was reached, and the score that beam search ranks by."""
    with torch.no_grad():
        found = model.generate(
            features, do_sample=False, return_dict_in_generate=True, output_scores=True, min_length=1, **settings
        )
    return found.sequences[0].tolist(), float(found.sequences_scores[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [1.0, 0.6])
def test_a_hypothesis_has_the_score_that_beam_search_gave_it(seed: int, penalty: float) -> None:
    model, features = tiny_whisper(seed), tiny_features(seed)
    limit = 12
    ids, expected = searched(model, features, num_beams=3, max_length=limit, length_penalty=penalty)
    ids = ids[1:] if ids[0] == START else ids
    tokens = ids[: ids.index(EOS)] if EOS in ids else ids
    (found,) = Judge(model, [START], penalty).score(features, [Hypothesis(tokens, len(tokens) < limit)])
    assert found.value == pytest.approx(expected, abs=1e-4)
    assert len(found.log_probs) == min(len(tokens) + 1, limit)


def test_the_probabilities_before_a_fork_are_shared() -> None:
    model, features = tiny_whisper(0), tiny_features(0)
    a, b = Judge(model, [START]).score(features, [Hypothesis([10, 11, 12], True), Hypothesis([10, 11, 40, 41], True)])
    assert a.log_probs[:2] == pytest.approx(b.log_probs[:2], abs=1e-6)
    assert a.log_probs[2] != pytest.approx(b.log_probs[2], abs=1e-6)
    assert len(a.log_probs) == 4
    assert len(b.log_probs) == 5


def test_nothing_generated() -> None:
    judge = Judge(tiny_whisper(0), [START])
    ended, cut = judge.score(tiny_features(0), [Hypothesis([], True), Hypothesis([], False)])
    assert len(ended.log_probs) == 1
    assert cut.log_probs == []


def test_a_language_that_was_detected_is_detected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = tiny_whisper(0), tiny_features(0)
    monkeypatch.setattr(model, "detect_language", lambda input_features: torch.tensor([17]))
    detected = Judge(model, [START, None, 30]).score(features, [Hypothesis([10], True)])
    assert detected == Judge(model, [START, 17, 30]).score(features, [Hypothesis([10], True)])
    assert detected != Judge(model, [START, 18, 30]).score(features, [Hypothesis([10], True)])


def test_tf32_is_off_while_scoring_and_as_before_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with ieee_fp32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.backends.cudnn.allow_tf32 is False
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32 is True
    finally:
        torch.set_float32_matmul_precision(before)
