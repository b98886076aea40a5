"""The whole engine against transformers' `generate` on random tiny models: tokens and scores, hundreds of cases."""

import random
from typing import Any

import pytest
import torch
from tiny_whisper import tiny_features, tiny_whisper
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import prompt_tokens
from whisper_speedup.errors import UserError
from whisper_speedup.fused.linear import Linear
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import decoding_settings

CPU = torch.device("cpu")
# Seeds whose random model ends a segment at 0.00 s for ever, so that transformers itself never returns.
TRANSFORMERS_HANGS = {282, 368}


class SameLogits(Linear):
    """The projection as the tiny model does it: with its end-of-text bias and its rounding."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self.project = model.proj_out.forward

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self.project(rows)


def fuse(model: WhisperForConditionalGeneration, arguments: dict[str, Any]) -> FusedWhisper:
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    fused = FusedWhisper(model, settings, CPU, torch.float32)
    object.__setattr__(fused.weights, "projection", SameLogits(model))
    return fused


def random_case(seed: int) -> tuple[WhisperForConditionalGeneration, dict[str, Any], bool]:
    chance = random.Random(seed + 1000)
    quantise, timestamps = chance.choice([0, 0, 0.05, 0.25]), chance.random() < 0.3
    model = tiny_whisper(
        seed, vocabulary=chance.choice([60, 97, 300]), eos_bias=chance.choice([2.0, 4.0, 6.0, 8.0]), quantise=quantise,
        timestamps=timestamps,
    )  # fmt: skip
    arguments: dict[str, Any] = {"num_beams": chance.choice([1, 2, 3, 5, 8]), "do_sample": False}
    arguments["min_length"] = chance.choice([1, 1, 6])
    arguments["max_length"] = chance.choice([5, 12, 30])
    if arguments["num_beams"] > 1:
        arguments["length_penalty"] = chance.choice([1.0, 1.0, 0.6, 0.0, 2.0])
        arguments["early_stopping"] = chance.choice([False, False, True, "never"])
    return model, arguments, timestamps


@pytest.mark.parametrize("block", [*range(2), *(pytest.param(one, marks=pytest.mark.slow) for one in range(2, 12))])
def test_equals_transformers(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        if seed in TRANSFORMERS_HANGS:
            continue
        model, arguments, timestamps = random_case(seed)
        features = tiny_features(seed)
        best = fuse(model, arguments).generate(features)
        with torch.no_grad():
            assert best.tokens == model.generate(features, **arguments)[0].tolist(), (seed, arguments)
            if arguments["num_beams"] > 1 and not timestamps:
                out = model.generate(features, **arguments, return_dict_in_generate=True, output_scores=True)
                assert best.score == pytest.approx(out.sequences_scores[0].item(), abs=1e-4), (seed, arguments)


def test_cuts_at_timestamps_and_goes_on() -> None:
    """These hypotheses hold two timestamps in a row, so transformers decodes the rest in further windows."""
    for seed in (5, 12, 16, 17, 24, 25, 26, 29):  # seeds that do
        model = tiny_whisper(seed, vocabulary=60, eos_bias=2.0, timestamps=True)
        arguments = {"num_beams": 3, "do_sample": False, "min_length": 1, "max_length": 12}
        features = tiny_features(seed)
        best = fuse(model, arguments).generate(features)
        assert len(best.tokens) > 12
        with torch.no_grad():
            assert best.tokens == model.generate(features, **arguments)[0].tolist()


def multilingual(seed: int) -> WhisperForConditionalGeneration:
    model = tiny_whisper(seed)
    config = model.generation_config
    config.is_multilingual = True
    config.lang_to_id = {"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}
    config.task_to_id = {"transcribe": 30, "translate": 31}
    config.no_timestamps_token_id = 40
    return model


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"language": "en", "task": "transcribe"}, [2, 20, 30, 40]),
        ({"language": "fr", "task": "translate"}, [2, 21, 31, 40]),
        ({"language": "de"}, [2, 22, 30, 40]),
        ({}, [2, None, 40]),
        ({"task": "translate"}, [2, None, 31, 40]),
    ],
)
def test_multilingual_prompts(asked: dict[str, str], expected: list[int | None]) -> None:
    for seed in range(6):
        model = multilingual(seed)
        arguments = {"num_beams": 2, "do_sample": False, "min_length": 1, "max_length": 8, **asked}
        features = tiny_features(seed)
        fused = fuse(model, arguments)
        assert list(fused.settings.prompt) == expected
        with torch.no_grad():
            assert fused.generate(features).tokens == model.generate(features, **arguments)[0].tolist()


def test_longest_decodes_to_the_limit() -> None:
    model = tiny_whisper(3, eos_bias=8.0)
    fused = fuse(model, {"num_beams": 2, "do_sample": False, "min_length": 1, "max_length": 9})
    best = fused.generate(tiny_features(3), longest=True)
    assert (len(best.tokens), best.ended) == (9, False)
    assert fused.generate(tiny_features(3)).ended


def test_utterances_do_not_depend_on_those_before() -> None:
    fused = fuse(tiny_whisper(5), {"num_beams": 3, "do_sample": False, "min_length": 1, "max_length": 12})
    first = fused.generate(tiny_features(1))
    fused.generate(tiny_features(2), longest=True)
    assert fused.generate(tiny_features(1)) == first


def test_refuses_what_it_does_not_serve() -> None:
    model = tiny_whisper(0)
    arguments = {"num_beams": 2, "do_sample": False, "min_length": 1, "max_length": 9}
    model.generation_config.no_repeat_ngram_size = 3
    with pytest.raises(UserError, match="no_repeat_ngram_size"):
        decoding_settings(model, arguments, [2])
    model = tiny_whisper(0)
    model.generation_config.eos_token_id = [1, 5]
    with pytest.raises(UserError, match="2 end-of-text tokens"):
        decoding_settings(model, arguments, [2])
    with pytest.raises(UserError, match="fills all 64 positions"):
        decoding_settings(tiny_whisper(0), arguments, [2] * 64)
