"""The beam search against an independent oracle on random logits, exact ties included."""

import random

import pytest
import torch
from beam_search_oracle import oracle, random_language

from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Suppression
from whisper_speedup.fused.settings import DecodingSettings

PROMPT = [2, 3, 4]
EOS = 1


def random_settings(seed: int) -> tuple[DecodingSettings, int]:
    chance = random.Random(seed)
    settings = DecodingSettings(
        prompt=tuple(PROMPT),
        num_beams=chance.choice([2, 3, 5, 8]),
        max_new_tokens=chance.choice([2, 5, 12, 30]),
        min_length=1,
        length_penalty=chance.choice([1.0, 1.0, 0.6, 0.0, 2.0, -0.5]),
        early_stopping=chance.choice([False, False, True, "never"]),
        eos=EOS,
        suppress=(6, 7, 8),
        begin_suppress=(9, EOS),
        languages=(),
        timestamp_begin=10**6,
        max_positions=64,
    )
    return settings, chance.choice([40, 97])


def search(settings: DecodingSettings, logits_of) -> tuple[list[int], float, int]:
    max_total = settings.max_total(0)
    beams = BeamSearch(settings, Suppression(settings, torch.device("cpu")), len(PROMPT), max_total)
    running = [list(PROMPT)] * settings.num_beams
    logits = logits_of(running[:1])
    steps = 1
    while beams.advance(logits):
        running = [[*running[p], t] for p, t in zip(beams.parents.tolist(), beams.tokens.tolist(), strict=True)]
        logits = logits_of(running)
        steps += 1
    best = beams.result()
    return PROMPT + best.tokens + ([EOS] if best.ended else []), best.score, steps


@pytest.mark.parametrize("quantise", [0.0, 0.25])
@pytest.mark.parametrize("block", range(10))
def test_equals_the_oracle(block: int, quantise: float) -> None:
    for seed in range(block * 25, block * 25 + 25):
        settings, vocabulary = random_settings(seed)
        # Quantised logits make exact ties, which fp16 logits do too.
        logits_of = random_language(seed, vocabulary, quantise)
        expected = oracle(
            logits_of, PROMPT, settings.num_beams, settings.max_total(0), EOS, list(settings.suppress),
            list(settings.begin_suppress), settings.length_penalty, settings.early_stopping,
        )  # fmt: skip
        tokens, score, steps = search(settings, logits_of)
        assert tokens == expected[0], (seed, settings)
        assert score == pytest.approx(expected[1], abs=1e-5)
        assert steps == expected[2]


def test_greedy_stops_at_end_of_text_and_at_the_limit() -> None:
    settings = DecodingSettings(
        prompt=(2,), num_beams=1, max_new_tokens=3, min_length=0, length_penalty=1.0, early_stopping=False, eos=EOS,
        suppress=(5,), begin_suppress=(EOS,), languages=(), timestamp_begin=100, max_positions=64,
    )  # fmt: skip
    suppression = Suppression(settings, torch.device("cpu"))
    greedy = GreedySearch(settings, suppression, 1, settings.max_total(0))
    likes_five_then_eos_then_seven = torch.tensor([[0.0, 8.0, 0.0, 0.0, 0.0, 9.0, 0.0, 7.0]])
    assert greedy.advance(likes_five_then_eos_then_seven)  # 5 is suppressed, end-of-text may not begin: 7
    assert not greedy.advance(likes_five_then_eos_then_seven)
    result = greedy.result()
    assert (result.tokens, result.ended) == ([7], True)
    log_probabilities = likes_five_then_eos_then_seven.log_softmax(-1)[0]
    assert result.score == pytest.approx(float(log_probabilities[7] + log_probabilities[EOS]) / 2, abs=1e-6)

    greedy = GreedySearch(settings, suppression, 1, settings.max_total(0))
    sevens = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0]])
    while greedy.advance(sevens):
        pass
    assert (greedy.result().tokens, greedy.result().ended) == ([7, 7, 7], False)


def test_min_length_counts_the_prompt_and_forbids_end_of_text() -> None:
    settings, vocabulary = random_settings(0)
    logits = torch.zeros(1, vocabulary)
    suppression = Suppression(settings, torch.device("cpu"))
    suppression.apply(logits, length=4, prompt_length=3, min_length=5)
    assert logits[0, EOS] == float("-inf")
    logits = torch.zeros(1, vocabulary)
    suppression.apply(logits, length=5, prompt_length=3, min_length=5)
    assert logits[0, EOS] == 0
    assert logits[0, 6] == float("-inf")
    assert logits[0, 9] == 0
