"""optimize_model and restore_model: what they take, refuse, and leave behind."""

import copy
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForAudioClassification, WhisperForConditionalGeneration

from whisper_speedup import explain_path, last_path, optimize_model, restore_model
from whisper_speedup.errors import UserError
from whisper_speedup.optimize.public import decoder_path, whole_model

ARGUMENTS: dict[str, Any] = {"num_beams": 3, "language": "en", "task": "transcribe"}


def test_importing_the_package_stays_cheap() -> None:
    code = "import sys, whisper_speedup; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    source = Path(__file__).parents[2] / "src"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)}, timeout=600)


def test_the_package_has_no_other_attribute() -> None:
    import whisper_speedup

    with pytest.raises(AttributeError, match="optimise_model"):
        whisper_speedup.optimise_model  # noqa: B018


@pytest.mark.parametrize("whole", [False, True])
def test_restored_it_is_as_before(whole: bool) -> None:
    model = multilingual_whisper(1)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    target = model if whole else model.model.decoder
    assert restore_model(target) is None  # nothing to undo
    assert optimize_model(target) is None  # as Kernl's returns nothing
    optimize_model(target)  # twice is once
    found = model.generate(tiny_features(1), **ARGUMENTS)
    assert last_path(target) is not None
    restore_model(target)
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert torch.equal(model.generate(tiny_features(1), **ARGUMENTS), found)
    assert last_path(target) is None
    assert explain_path(model).path == "original"


def test_optimising_the_decoder_of_an_optimised_model_and_restoring_either() -> None:
    model = multilingual_whisper(1)
    optimize_model(model)
    restore_model(model.model.decoder)
    expected = multilingual_whisper(1).generate(tiny_features(1), **ARGUMENTS)
    assert torch.equal(model.generate(tiny_features(1), **ARGUMENTS), expected)
    restore_model(model)
    assert whole_model(model) is None
    optimize_model(model.model.decoder)
    assert explain_path(model, tiny_features(1)).reason == "optimize_model was called on the decoder alone"


def test_generate_keeps_its_signature() -> None:
    model = multilingual_whisper(0)
    before = inspect.signature(model.generate)
    optimize_model(model)
    assert inspect.signature(model.generate) == before


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_a_copy_stands_on_its_own(copied: Any) -> None:
    model, features = multilingual_whisper(1), tiny_features(1)
    optimize_model(model)
    expected = model.generate(features, **ARGUMENTS)
    other = copied(model)
    assert decoder_path(other.model.decoder).decoder is other.model.decoder
    assert whole_model(other).model is other
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(other.generate(features, **ARGUMENTS), expected)
    assert last_path(other).path == "whole model"


def test_saved_it_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    model = multilingual_whisper(1)
    names = list(model.state_dict())
    optimize_model(model)
    model.generate(tiny_features(1), **ARGUMENTS)
    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.generate(tiny_features(1), **ARGUMENTS), model.generate(tiny_features(1), **ARGUMENTS))


def quantised(model: WhisperForConditionalGeneration) -> Any:
    return torch.ao.quantization.quantize_dynamic(model.model.decoder, {torch.nn.Linear}, dtype=torch.qint8)


def relu(model: WhisperForConditionalGeneration) -> Any:
    model.config.activation_function = "relu"
    return model


def dispatched(model: WhisperForConditionalGeneration) -> Any:
    decoder = model.model.decoder
    decoder.forward = type(decoder).forward.__get__(decoder)
    return decoder


def double(model: WhisperForConditionalGeneration) -> Any:
    return model.double()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (lambda model: model.model, "not a WhisperModel"),
        (lambda model: model.model.encoder, "not a WhisperEncoder"),
        (lambda model: WhisperForAudioClassification(model.config), "not a WhisperForAudioClassification"),
        (lambda model: torch.nn.Linear(2, 2), "not a Linear"),
        (lambda model: "openai/whisper-large-v2", "not a str"),
        (lambda model: torch.compile(model), "not a OptimizedModule"),
        (quantised, "is a Linear|DynamicQuantizedLinear"),
        (relu, "activation function is relu"),
        (dispatched, "another forward in the place"),
        (double, "not all float32, float16 or bfloat16"),
    ],
)
def test_what_is_not_a_plain_whisper_is_refused_with_one_sentence(target: Any, reason: str) -> None:
    chosen = target(multilingual_whisper(0))
    with pytest.raises(UserError, match=reason) as refused:
        optimize_model(chosen)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("whole", [False, True])
def test_threads_that_share_a_model_do_not_meet(whole: bool) -> None:
    model = multilingual_whisper(1)
    expected = [model.generate(tiny_features(seed), **ARGUMENTS) for seed in range(4)]
    optimize_model(model if whole else model.model.decoder)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: model.generate(tiny_features(seed % 4), **ARGUMENTS), range(16)))
    assert all(torch.equal(one, expected[index % 4]) for index, one in enumerate(found))
