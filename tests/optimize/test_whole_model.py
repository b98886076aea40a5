"""optimize_model on a whole model: which calls the fused engine takes, and that it gives what transformers gives."""

import random
from typing import Any

import pytest
import torch
from documented_uses import batch, stopped_when_it_hangs
from tiny_whisper import multilingual_whisper, tiny_features, tiny_whisper
from transformers import GenerationConfig, LogitsProcessorList, WhisperForConditionalGeneration

from whisper_speedup import explain_path, last_path, optimize_model
from whisper_speedup.optimize.decoder_path import PathTaken
from whisper_speedup.optimize.public import whole_model
from whisper_speedup.optimize.whole_model import KEPT


def optimised(seed: int = 0) -> WhisperForConditionalGeneration:
    model = multilingual_whisper(seed)
    optimize_model(model)
    return model


ENGLISH: dict[str, Any] = {"language": "en", "task": "transcribe"}


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"num_beams": 5}, {"max_new_tokens": 9}, {"max_length": 5}, {"min_length": 3}, {"length_penalty": 0.5},
        {"num_beams": 3, "early_stopping": "never"}, {"do_sample": False}, {"use_cache": True}, {"temperature": 0.0},
        {"return_timestamps": False}, {"return_dict_in_generate": False}, {"logits_processor": LogitsProcessorList()},
        {"attention_mask": torch.ones(1, 40, dtype=torch.long)}, {"return_segments": False}, {"time_precision": 0.02},
        {"language": "fr", "task": "translate"}, {"condition_on_prev_tokens": False}, {"synced_gpus": False},
    ],
    ids=str,
)  # fmt: skip
def test_the_whole_model_path_takes(arguments: dict[str, Any]) -> None:
    plain, ours = multilingual_whisper(3), optimised(3)
    features, arguments = tiny_features(3), {**ENGLISH, **arguments}
    assert explain_path(ours, features, **arguments) == explain_path(ours, input_features=features, **arguments)
    assert explain_path(ours, features, **arguments).path == "whole model"
    assert last_path(ours) is None
    expected, found = plain.generate(features, **arguments), ours.generate(features, **arguments)
    assert torch.equal(expected, found)
    assert expected.dtype == found.dtype
    assert last_path(ours).path == "whole model"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"temperature": (0.0, 0.5)}, "temperature"), ({"temperature": 0.5}, "temperature"),
        ({"return_timestamps": True}, "return_timestamps"), ({"do_sample": True}, "do_sample"),
        ({"compression_ratio_threshold": 0.0}, "compression_ratio_threshold"), ({"top_k": 3}, "top_k"),
        ({"logprob_threshold": 0.0}, "logprob_threshold"), ({"no_such_argument": 1}, "no_such_argument"),
        ({"generation_config": GenerationConfig()}, "generation_config"), ({"use_cache": False}, "use_cache"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate"), ({"time_precision": 0.04}, "time_precision"),
        ({"suppress_tokens": [5]}, "suppress_tokens"), ({"eos_token_id": 5}, "eos_token_id"),
        ({"is_multilingual": True}, "is_multilingual"), ({"language": ["en"]}, "list"),
        ({"num_beams": torch.tensor(2)}, "num_beams is a Tensor"), ({"early_stopping": "often"}, "early_stopping"),
        ({"max_new_tokens": 62}, "`max_new_tokens` is 62"), ({"language": "xx"}, "xx"),
        ({"num_beams": 0}, "num_beams is 0"), ({"max_length": 0}, "max_length is 0"),
        ({"prompt_ids": []}, "prompt_ids"), ({"num_beams": 2.0}, "num_beams"),
        ({"force_unique_generate_call": True}, "force_unique_generate_call"),
    ],
    ids=str,
)  # fmt: skip
def test_every_other_call_goes_to_transformers_loop(arguments: dict[str, Any], reason: str) -> None:
    ours = optimised()
    taken = explain_path(ours, tiny_features(0), **{**ENGLISH, **arguments})
    assert taken.path == "decoder"
    assert reason in taken.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 1.2), ("no_repeat_ngram_size", 2), ("return_timestamps", True), ("max_new_tokens", 5),
        ("sequence_bias", [[[5], 1.0]]), ("pad_token_id", 5), ("something_new", 3), ("no_speech_threshold", 0.5),
        ("num_return_sequences", 2), ("return_dict_in_generate", True), ("output_scores", True),
        ("bad_words_ids", [[4]]),
    ],
)  # fmt: skip
def test_a_generation_config_that_asks_for_more(name: str, value: Any) -> None:
    ours = optimised()
    assert explain_path(ours, tiny_features(0), **ENGLISH).path == "whole model"
    setattr(ours.generation_config, name, value)  # noticed between two calls
    taken = explain_path(ours, tiny_features(0), **ENGLISH)
    assert taken.path == "decoder"
    assert name in taken.reason


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (batch(0, 2), "2 utterances"), (batch(0, 1, 41), "41 frames"), (None, "no input_features"),
        (torch.zeros(1, 8, 40, dtype=torch.float64), "float64"), (torch.zeros(1, 9, 40), "9 bands"),
    ],
)  # fmt: skip
def test_features_of_another_kind(features: Any, reason: str) -> None:
    taken = explain_path(optimised(), features, **ENGLISH)
    assert (taken.path, reason in taken.reason) == ("decoder", True)


def hook(model: WhisperForConditionalGeneration) -> None:
    model.model.encoder.register_forward_hook(lambda module, args, output: None)


def patch(model: WhisperForConditionalGeneration) -> None:
    model.proj_out.forward = lambda states: torch.nn.functional.linear(states, model.proj_out.weight) * 2


def train(model: WhisperForConditionalGeneration) -> None:
    model.train()


def override(model: WhisperForConditionalGeneration) -> None:
    model.prepare_inputs_for_generation = lambda *args, **kwargs: {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hook, "hook on model.encoder"),
        (patch, "forward of proj_out"),
        (train, "training"),
        (override, "prepare_inputs"),
    ],
)
def test_a_model_that_is_not_a_plain_one_any_more(change: Any, reason: str) -> None:
    ours = optimised()
    assert explain_path(ours, tiny_features(0), **ENGLISH).path == "whole model"
    change(ours)
    assert reason in explain_path(ours, tiny_features(0), **ENGLISH).reason


def test_new_weights_are_used() -> None:
    ours, features = optimised(1), tiny_features(1)
    before = ours.generate(features, num_beams=2, **ENGLISH)
    other = multilingual_whisper(6)
    ours.load_state_dict(other.state_dict())
    found = ours.generate(features, num_beams=2, **ENGLISH)
    assert torch.equal(found, other.generate(features, num_beams=2, **ENGLISH))
    assert not torch.equal(found, before)
    assert last_path(ours).path == "whole model"


@pytest.mark.parametrize("beams", [1, 3])
def test_output_that_is_not_a_number_is_left_to_transformers(beams: int) -> None:
    plain, ours = multilingual_whisper(2), optimised(2)
    for model in (plain, ours):
        with torch.no_grad():
            model.model.decoder.layer_norm.weight[3] = float("nan")
    arguments = {**ENGLISH, "num_beams": beams, "max_new_tokens": 4}
    features = tiny_features(2)
    assert torch.equal(plain.generate(features, **arguments), ours.generate(features, **arguments))
    assert last_path(ours) == PathTaken("decoder", "the model's output is not a number")


def test_settings_share_the_weights_and_only_a_few_are_kept() -> None:
    ours, features = optimised(2), tiny_features(2)
    for beams in (1, 2, 3, 4, 5, 6, 2):
        expected = multilingual_whisper(2).generate(features, num_beams=beams, **ENGLISH)
        assert torch.equal(ours.generate(features, num_beams=beams, **ENGLISH), expected)
    runners = list(whole_model(ours).runners.values())
    assert [runner.settings.num_beams for runner in runners] == [4, 5, 6, 2]
    assert len(runners) == KEPT
    assert len({id(runner.weights) for runner in runners}) == 1
    assert runners[0].weights.layers is whole_model(ours).decoder.packed().layers


@pytest.mark.parametrize("bad", [{"language": "xx"}, {"no_such_argument": 1}, {"max_new_tokens": 62}])
def test_a_users_mistake_gives_transformers_own_error(bad: dict[str, Any]) -> None:
    messages = []
    for model in (multilingual_whisper(0), optimised()):
        with pytest.raises(ValueError, match=r".") as refused:
            model.generate(tiny_features(0), **{**ENGLISH, **bad})
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("seed", range(6))
def test_equals_transformers_on_random_settings(seed: int) -> None:
    """Timestamps that cut a window in two, lengths that grow from window to window, and lengths that do not."""
    chance = random.Random(seed)
    for number in range(4):
        arguments: dict[str, Any] = {"num_beams": chance.choice([1, 2, 5])}
        arguments[chance.choice(["max_length", "max_new_tokens"])] = chance.choice([3, 8, 15])
        if arguments["num_beams"] > 1:
            arguments["length_penalty"] = chance.choice([1.0, 0.6, 2.0])
            arguments["early_stopping"] = chance.choice([False, True, "never"])
        frames = chance.choice([40, 40, 26])
        model = tiny_whisper(100 * seed + number, vocabulary=60, timestamps=chance.random() < 0.6)
        del model.proj_out.forward
        features = batch(seed + number, 1, frames)
        try:
            expected = model.generate(features, monitor_progress=stopped_when_it_hangs(), **arguments)
        except AssertionError:  # transformers would never return
            continue
        optimize_model(model)
        assert torch.equal(model.generate(features, **arguments), expected), arguments
        assert last_path(model).path == "whole model"
