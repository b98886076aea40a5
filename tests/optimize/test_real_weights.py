"""Whisper tiny.en's own weights on real speech, in fp32 on a CPU: the same results with optimize_model as without."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from documented_uses import assert_same
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from whisper_speedup import last_path, optimize_model
from whisper_speedup.checkpoints import bundled
from whisper_speedup.errors import UserError

SAMPLES = Path(__file__).parents[2] / "samples"
CLIPS = ("cards-002", "librivox-0880")  # the first is a close call: Kernl's masking changes its text
SCORES = {"return_dict_in_generate": True, "output_scores": True}
# Arguments of `generate`, and the path that optimize_model(model) takes.
QUICK = "5 beams with scores"
USES: dict[str, tuple[dict[str, Any], str]] = {
    "greedy": ({}, "whole model"),
    "5 beams": ({"num_beams": 5}, "whole model"),
    "5 beams with scores": ({"num_beams": 5, **SCORES}, "decoder"),
    "return_timestamps": ({"return_timestamps": True}, "decoder"),
    "sampling with a seed": ({"do_sample": True, "temperature": 0.8}, "decoder"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.en as a Hugging Face folder, from the package that ships it."""
    target = tmp_path_factory.mktemp("tiny.en")
    try:
        bundled.write("tiny.en", target)
    except UserError as error:
        pytest.skip(f"no real weights here: {error}")
    return target


@pytest.fixture(scope="module")
def plain(folder: Path) -> WhisperForConditionalGeneration:
    """transformers' own model."""
    return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def decoder(plain: WhisperForConditionalGeneration) -> WhisperForConditionalGeneration:
    """The same after optimize_model(model.model.decoder)."""
    model = copy.deepcopy(plain)
    optimize_model(model.model.decoder)
    return model


@pytest.fixture(scope="module")
def whole(plain: WhisperForConditionalGeneration) -> WhisperForConditionalGeneration:
    """The same after optimize_model(model)."""
    model = copy.deepcopy(plain)
    optimize_model(model)
    return model


@pytest.fixture(scope="module")
def features(folder: Path) -> torch.Tensor:
    """Log-mel features (2, 80, 3000) of CLIPS."""
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    clips = [soundfile.read(SAMPLES / f"{name}.flac", dtype="float32")[0] for name in CLIPS]
    return extractor(clips, sampling_rate=16000, return_tensors="pt").input_features


def results(model: WhisperForConditionalGeneration, batches: Iterable[torch.Tensor], **arguments: Any) -> list[Any]:
    """What `generate` returns for each, from the same seed, without its cache."""
    found = []
    for batch in batches:
        torch.manual_seed(3)
        result = model.generate(batch, max_new_tokens=24, **arguments)
        if not isinstance(result, torch.Tensor):
            result = {name: value for name, value in result.items() if name != "past_key_values"}
        found.append(result)
    return found


@pytest.mark.parametrize(
    "name", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in USES if name != QUICK)]
)
def test_one_utterance(
    plain: WhisperForConditionalGeneration,
    decoder: WhisperForConditionalGeneration,
    whole: WhisperForConditionalGeneration,
    features: torch.Tensor,
    name: str,
) -> None:
    arguments, path = USES[name]
    expected = results(plain, features.split(1), **arguments)
    assert_same(expected, results(decoder, features.split(1), **arguments), name)
    assert last_path(decoder.model.decoder).path == "decoder"
    assert_same(expected, results(whole, features.split(1), **arguments), name)
    assert last_path(whole).path == path


@pytest.mark.slow
def test_two_utterances_at_once_with_a_prompt(
    plain: WhisperForConditionalGeneration,
    decoder: WhisperForConditionalGeneration,
    whole: WhisperForConditionalGeneration,
    features: torch.Tensor,
    folder: Path,
) -> None:
    prompt = WhisperTokenizer.from_pretrained(folder).get_prompt_ids("Playing cards, clubs.", return_tensors="pt")
    expected = results(plain, [features], prompt_ids=prompt, num_beams=2)
    assert_same(expected, results(decoder, [features], prompt_ids=prompt, num_beams=2))
    assert_same(expected, results(whole, [features], prompt_ids=prompt, num_beams=2))
    assert last_path(decoder.model.decoder).path == last_path(whole).path == "decoder"


def test_it_hears_what_was_said(whole: WhisperForConditionalGeneration, features: torch.Tensor, folder: Path) -> None:
    """The weights are real, so that the tests above compare speech and not noise."""
    tokens = whole.generate(features[1:], max_new_tokens=24)
    text = WhisperTokenizer.from_pretrained(folder).decode(tokens[0], skip_special_tokens=True)
    assert text.strip().endswith("young man.")
