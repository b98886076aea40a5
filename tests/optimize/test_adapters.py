"""Adapters of PEFT that come and go between two calls of `generate`.

PEFT merges through `.data`, which PyTorch's counters do not see, and the modules are the same afterwards.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from tiny_whisper import tiny_features, varied_whisper
from transformers import WhisperForConditionalGeneration

from whisper_speedup import last_path, optimize_model
from whisper_speedup.errors import UserError
from whisper_speedup.optimize import fingerprint, watch

Model = WhisperForConditionalGeneration
ARGUMENTS: dict[str, Any] = {"language": "en", "task": "transcribe", "num_beams": 3, "max_new_tokens": 10}


def lora(modules: str | list[str], **settings: Any) -> PeftConfig:
    return LoraConfig(r=4, lora_alpha=32, target_modules=modules, **settings)


KINDS: dict[str, Callable[[], PeftConfig]] = {  # PEFT writes into what it is given
    "LoRA": lambda: lora(["q_proj", "v_proj", "fc1"]),
    "LoRA of the encoder": lambda: lora(r".*encoder\.layers.*\.(q_proj|fc1)"),
    "LoRA of proj_out": lambda: lora(["proj_out"]),
    "LoRA of the embedding": lambda: lora(["embed_tokens"]),
    "DoRA": lambda: lora(["q_proj", "fc1"], use_dora=True),
    "biases and modules besides": lambda: lora(["q_proj"], bias="all", modules_to_save=["fc2", "layer_norm"]),
    "IA3": lambda: IA3Config(target_modules=["v_proj", "fc2"], feedforward_modules=["fc2"]),
}
OUTSIDE = {"LoRA of the encoder", "LoRA of proj_out"}  # the decoder stays plain


def whole(model: Model) -> None:
    optimize_model(model)
    said(model)


def decoder(model: Model) -> None:
    optimize_model(model.model.decoder)
    said(model)


def said(model: Any) -> list[list[int]]:
    return [model.generate(input_features=tiny_features(seed), **ARGUMENTS)[0].tolist() for seed in range(2)]


def adapted(model: Model, kind: str, seed: int = 2) -> PeftModel:
    """The model with an adapter that changes what it says."""
    torch.manual_seed(seed)  # PEFT draws some of an adapter's weights, and keeps them
    adapter = get_peft_model(model, KINDS[kind]())
    disturb(adapter, seed)
    return adapter.eval()


def disturb(adapter: PeftModel, seed: int) -> None:
    """What a training of the adapter does to it."""
    chance = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape, generator=chance) / 2)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every model for one that is too large to be read as a whole in each call."""
    monkeypatch.setitem(fingerprint.SMALL, "cpu", 0)
    monkeypatch.setattr(watch, "PAUSE_S", float("inf"))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (place > 0)) for place, kind in enumerate(KINDS)]
)
def test_merged_before_anything_is_decoded_with_it(kind: str) -> None:
    """Modules, addresses and counters are then what they were."""
    expected = said(adapted(varied_whisper(1), kind).merge_and_unload())
    assert expected != said(varied_whisper(1))
    for optimise, path in ((whole, "whole model"), (decoder, "decoder")):
        model = varied_whisper(1)
        optimise(model)
        assert adapted(model, kind).merge_and_unload() is model
        assert said(model) == expected
        assert last_path(model if optimise is whole else model.model.decoder).path == path


def states_of(model: Model, kind: str) -> list[list[list[int]]]:
    """What a model says with an adapter, without it for once, merged, unmerged, trained, and merged for good."""
    adapter = adapted(model, kind)
    states = [said(adapter)]
    with adapter.disable_adapter():
        states.append(said(adapter))
    adapter.merge_adapter()
    states.append(said(adapter))
    adapter.unmerge_adapter()
    states.append(said(adapter))
    disturb(adapter, seed=3)
    return [*states, said(adapter), said(adapter.merge_and_unload())]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    ("kind", "optimise"),
    [
        ("LoRA", whole),
        pytest.param("LoRA", decoder, marks=pytest.mark.slow),
        pytest.param("LoRA of the encoder", whole, marks=pytest.mark.slow),
        ("LoRA of the encoder", decoder),
    ],
)
def test_with_it_without_it_merged_and_trained(optimise: Callable[[Model], None], kind: str) -> None:
    expected = states_of(varied_whisper(1), kind)
    with_it, without, merged, unmerged, trained, for_good = expected
    assert with_it == merged == unmerged != without == said(varied_whisper(1)) != trained == for_good != with_it
    model = varied_whisper(1)
    optimise(model)
    assert states_of(model, kind) == expected


@pytest.mark.parametrize("kind", ["LoRA", "LoRA of the embedding", "IA3", *sorted(OUTSIDE)])
def test_a_model_that_has_one_already(kind: str) -> None:
    """An adapter in the decoder is refused; around it the decoder is served. Merged, it is a plain Whisper."""
    plain, model = adapted(varied_whisper(1), kind), varied_whisper(1)
    adapter = adapted(model, kind)
    if kind in OUTSIDE:
        optimize_model(model)
        assert said(adapter) == said(plain)
        assert last_path(model).path == "decoder"
    else:
        for refused in (model, model.model.decoder):
            with pytest.raises(UserError, match="takes a plain transformers Whisper"):
                optimize_model(refused)
        assert said(adapter) == said(plain)
        adapter.merge_and_unload()
        optimize_model(model)
    assert said(adapter.merge_and_unload() if kind in OUTSIDE else model) == said(plain.merge_and_unload())
    assert last_path(model).path == "whole model"


@pytest.mark.parametrize("optimise", [whole, pytest.param(decoder, marks=pytest.mark.slow)])
def test_two_that_take_turns(optimise: Callable[[Model], None]) -> None:
    results = []
    for prepare in (said, optimise):
        model = varied_whisper(1)
        prepare(model)
        adapter = adapted(model, "LoRA of the encoder")
        adapter.add_adapter("other", KINDS["LoRA of the encoder"]())
        states = []
        for name in ("other", "default", "other"):
            adapter.set_adapter(name)
            disturb(adapter, seed=len(name))
            states.append(said(adapter))
            adapter.merge_adapter()
            states.append(said(adapter))
            adapter.unmerge_adapter()
        results.append([*states, said(adapter.unload())])
    assert results[0] == results[1]
    assert results[0][0] != results[0][2] != results[0][6]
