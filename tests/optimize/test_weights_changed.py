"""Weights and settings that change between two calls of `generate`, in the ways that PyTorch and its users have.

Each change is made to an optimised model that has decoded before, and to a plain one: both must say the same after it.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_changes import SHOWN, data_added, matrix
from tiny_whisper import tiny_features, varied_whisper
from transformers import WhisperForConditionalGeneration

from whisper_speedup import last_path, optimize_model
from whisper_speedup.errors import ClipError, NotANumberError
from whisper_speedup.optimize import fingerprint, watch
from whisper_speedup.optimize.public import whole_model

Model = WhisperForConditionalGeneration
ARGUMENTS: dict[str, Any] = {"language": "en", "task": "transcribe", "num_beams": 3}


def a_few_values(model: Model) -> None:
    """In places that the sample passes over."""
    words = fingerprint.words_of(matrix(model), 4)
    sampled = set(range(0, words.numel(), fingerprint.sample_stride(matrix(model).shape)))
    unseen = [place for place in range(words.numel()) if place not in sampled][:40]
    matrix(model).data.view(-1)[unseen] = 9.0


def same_after(change: Callable[[Model], None], whole: bool) -> None:
    ours, plain = varied_whisper(1), varied_whisper(1)
    optimize_model(ours if whole else ours.model.decoder)
    features = [tiny_features(seed) for seed in range(2)]
    before = [ours.generate(one, **ARGUMENTS) for one in features]
    for model in (ours, plain):
        change(model)
    found = [ours.generate(one, **ARGUMENTS) for one in features]
    expected = [plain.generate(one, **ARGUMENTS) for one in features]
    assert all(map(torch.equal, expected, found))
    assert not all(map(torch.equal, expected, before)), "the change is one that the text shows"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every model for one that is too large to be read as a whole in each call."""
    monkeypatch.setitem(fingerprint.SMALL, "cpu", 0)
    monkeypatch.setattr(watch, "PAUSE_S", float("inf"))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("change", SHOWN.values(), ids=SHOWN)
def test_a_sample_of_the_weights_shows(change: Callable[[Model], None]) -> None:
    same_after(change, whole=True)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", ["AdamW, fused", "data_added", "written_by_numpy", "another_eps", "another_scaling"])
def test_and_where_the_decoder_alone_is_optimised(name: str) -> None:
    same_after(SHOWN[name], whole=False)


@pytest.mark.parametrize("whole", [True, False], ids=["model", "decoder"])
def test_a_few_values_of_a_small_model_are_seen_at_once(whole: bool) -> None:
    same_after(a_few_values, whole)


@pytest.mark.usefixtures("large")
def test_a_few_values_are_seen_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    model = varied_whisper(1)
    optimize_model(model)
    before = model.generate(tiny_features(1), **ARGUMENTS)
    a_few_values(model)
    assert torch.equal(model.generate(tiny_features(1), **ARGUMENTS), before)
    monkeypatch.setattr(watch, "PAUSE_S", 0)
    plain = varied_whisper(1)
    a_few_values(plain)
    assert torch.equal(model.generate(tiny_features(1), **ARGUMENTS), plain.generate(tiny_features(1), **ARGUMENTS))


@pytest.mark.usefixtures("large")
def test_and_at_once_after_a_forward_with_gradients() -> None:
    model, plain = varied_whisper(1), varied_whisper(1)
    optimize_model(model)
    model.generate(tiny_features(1), **ARGUMENTS)
    model(input_features=tiny_features(1), decoder_input_ids=torch.tensor([[2, 20]]))
    for one in (model, plain):
        a_few_values(one)
    assert torch.equal(model.generate(tiny_features(1), **ARGUMENTS), plain.generate(tiny_features(1), **ARGUMENTS))


def test_an_unchanged_model_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = varied_whisper(1)
    optimize_model(model)
    model.generate(tiny_features(1), **ARGUMENTS)
    monkeypatch.setattr("whisper_speedup.optimize.whole_model.make_runner", lambda *_: pytest.fail("packed again"))
    for _ in range(3):
        model.generate(tiny_features(1), **ARGUMENTS)
    assert last_path(model).path == "whole model"


def test_a_cache_whose_weights_changed_goes_on_in_transformers() -> None:
    """Keys and values stay what they were, and the layers are today's."""
    ours, plain = varied_whisper(1), varied_whisper(1)
    optimize_model(ours.model.decoder)
    states, tokens = torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([[2, 20]])
    results = []
    for model in (ours, plain):
        decoder = model.model.decoder
        with torch.no_grad():
            first = decoder(input_ids=tokens, encoder_hidden_states=states, use_cache=True)
            data_added(model)
            model.generate(tiny_features(1), **ARGUMENTS)  # packs what is there now
            cache = first.past_key_values
            second = decoder(
                input_ids=tokens[:, :1], encoder_hidden_states=states, past_key_values=cache, use_cache=True
            )
        results.append(second.last_hidden_state)
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "error", [ClipError("no way on"), RuntimeError("shapes"), NotANumberError("setting", half=False)]
)
def test_what_fails_with_the_weights_of_the_call_before_does_not_count(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ours = varied_whisper(1), varied_whisper(1)
    optimize_model(ours)
    ours.generate(tiny_features(1), language="en")
    for model in (plain, ours):
        model.model.decoder.layers[0].fc1.weight.data.neg_()
    (stale,) = whole_model(ours).runners.values()

    def fails(features: torch.Tensor, meanwhile: Callable[[], object]) -> None:
        meanwhile()
        raise error

    monkeypatch.setattr(stale, "generate", fails)
    expected = plain.generate(tiny_features(1), language="en")
    assert torch.equal(ours.generate(tiny_features(1), language="en"), expected)
    assert last_path(ours).path == "whole model"
