"""What people do to a model between two calls of `generate`: they train it, adapt it, merge the adapter, average it.

Each is done to an optimised model and to a plain one; what they say must be the same after every step.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_whisper import tiny_features, varied_whisper
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperForConditionalGeneration

from whisper_speedup import last_path, optimize_model

Model = WhisperForConditionalGeneration
ARGUMENTS: dict[str, Any] = {"language": "en", "task": "transcribe", "num_beams": 3}
Optimise = Callable[[Model], None]


def nothing(model: Model) -> None:
    """The plain model."""


def whole(model: Model) -> None:
    optimize_model(model)
    model.generate(tiny_features(1), **ARGUMENTS)


def decoder(model: Model) -> None:
    optimize_model(model.model.decoder)
    model.generate(tiny_features(1), **ARGUMENTS)


def said(model: Any) -> list[list[int]]:
    return [model.generate(input_features=tiny_features(seed), **ARGUMENTS)[0].tolist() for seed in range(3)]


class Speech(torch.utils.data.Dataset[dict[str, Any]]):
    """Random features, and the text that they are to become."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_features": tiny_features(index)[0], "labels": torch.tensor([20, 30, 75, 40 + index, 41, 42, 1])}


def predictions_of_each_epoch(model: Model, folder: Path) -> list[list[list[int]]]:
    epochs: list[list[list[int]]] = []

    def keep(predicted: Any) -> dict[str, float]:
        epochs.append(np.asarray(predicted.predictions).tolist())
        return {}

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=3, per_device_eval_batch_size=1,
        learning_rate=0.02, eval_strategy="epoch", predict_with_generate=True, generation_num_beams=3,
        generation_max_length=10, save_strategy="no", report_to=[], use_cpu=True, seed=7, disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    assert "fused" in arguments.optim, "the trainer's default is the optimizer that PyTorch's counters do not see"
    model.generation_config.language, model.generation_config.task = "en", "transcribe"
    Seq2SeqTrainer(
        model, arguments, train_dataset=Speech(), eval_dataset=Speech(), compute_metrics=keep
    ).train()  # fmt: skip
    return epochs


@pytest.fixture(scope="module")
def plain_epochs(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[int]]]:
    return predictions_of_each_epoch(varied_whisper(1), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("optimise", [whole, decoder])
def test_a_trainer_that_predicts_after_each_epoch(
    optimise: Optimise, plain_epochs: list[list[list[int]]], tmp_path: Path
) -> None:
    model = varied_whisper(1)
    optimise(model)
    assert predictions_of_each_epoch(model, tmp_path) == plain_epochs
    assert plain_epochs[0] != plain_epochs[1] != plain_epochs[2], "the text changes while it is trained"


def adapted(optimise: Optimise, late: bool) -> list[list[list[int]]]:
    """What a model says before it has an adapter, with one, merged, unmerged, and when it is merged for good."""
    model = varied_whisper(1)
    if not late:
        optimise(model)
    steps = [said(model)]
    adapter = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1"], lora_alpha=64))
    chance = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=chance))
    adapter.eval()
    steps.append(said(adapter))
    adapter.merge_adapter()
    steps.append(said(adapter))
    adapter.unmerge_adapter()
    steps.append(said(adapter))
    merged = adapter.merge_and_unload()
    if late:
        optimise(merged)
    steps.append(said(merged))
    return steps


@pytest.mark.parametrize(
    "late", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["optimised first", "optimised when merged"]
)
@pytest.mark.parametrize("optimise", [whole, decoder])
def test_an_adapter_that_comes_and_is_merged(optimise: Optimise, late: bool) -> None:
    expected = adapted(nothing, late)
    assert adapted(optimise, late) == expected
    assert expected[0] != expected[1] == expected[2] == expected[3] == expected[4]


@pytest.mark.parametrize("optimise", [whole, decoder])
def test_an_adapter_that_is_merged_before_anything_is_decoded_with_it(optimise: Optimise) -> None:
    results = []
    for prepare in (nothing, optimise):
        model = varied_whisper(1)
        prepare(model)
        torch.manual_seed(5)  # the adapter's weights
        adapter = get_peft_model(
            model, LoraConfig(r=4, target_modules=["q_proj", "fc1"], init_lora_weights=False, lora_alpha=64)
        )
        results.append([said(adapter.merge_and_unload())])
    assert results[0] != [said(varied_whisper(1))]
    assert results[0] == results[1]


def test_a_merged_model_runs_in_the_fused_engine() -> None:
    model = varied_whisper(1)
    whole(model)
    merged = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).merge_and_unload()
    said(merged)
    assert last_path(merged).path == "whole model"


@pytest.mark.parametrize("optimise", [whole, decoder])
def test_an_average_that_is_written_through_data(optimise: Optimise) -> None:
    results = []
    for prepare in (nothing, optimise):
        model, target = varied_whisper(1), varied_whisper(2)
        prepare(model)
        kept = copy.deepcopy(model.state_dict())
        steps = [said(model)]
        for _ in range(2):
            for own, other in zip(model.parameters(), target.parameters(), strict=True):
                own.data.lerp_(other.data, 0.5)
            steps.append(said(model))
        model.load_state_dict(kept)
        steps.append(said(model))
        results.append(steps)
    assert results[0] == results[1]
    assert results[0][0] == results[0][3] != results[0][1] != results[0][2]
