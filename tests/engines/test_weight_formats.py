"""Engines fused_int8 and fused_fp8: from a folder, the tokens of transformers with the same rounded weights."""

from pathlib import Path

import pytest
import torch

from tests.engines.test_fused import MEASURE, generation
from tests.fused.test_device_decoder import plain_tiny_whisper
from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.create import create
from whisper_speedup.engines.fused import Fused
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.errors import NotANumberError, UserError
from whisper_speedup.fused.rounded_model import round_weights
from whisper_speedup.kernels.eight_bits import WeightFormat

CPU = torch.device("cpu")
both = pytest.mark.parametrize(("name", "weights"), [("fused_int8", "int8"), ("fused_fp8", "fp8")])


@both
@pytest.mark.parametrize("beams", [1, 5])
def test_the_tokens_of_the_baseline_with_rounded_weights(
    tmp_path: Path, one_thread: None, name: str, weights: WeightFormat, beams: int
) -> None:
    changed = 0
    for seed in range(4):
        model = plain_tiny_whisper(seed)
        model.save_pretrained(tmp_path / str(seed))
        engine = create(name, MEASURE)
        engine.load(tmp_path / str(seed), generation(beams), CPU)
        engine.warm_up(tiny_features(seed))
        found = engine.generate(tiny_features(seed))
        assert (engine.name, engine.dtype, engine.prompt) == (name, "float32", [2])
        engine.close()

        baseline = HuggingFace(BaselineParams())
        baseline.use(round_weights(model, weights), generation(beams), CPU)
        expected = baseline.generate(tiny_features(seed))
        assert (found.tokens, found.truncated) == (expected.tokens, expected.truncated)
        plain = create("fused", MEASURE)
        plain.load(tmp_path / str(seed), generation(beams), CPU)
        changed += plain.generate(tiny_features(seed)).score != found.score
    assert changed or beams == 1, "rounding changed no score: was anything rounded?"


@both
def test_its_settings_are_recorded_and_no_launch_of_all_layers_is_asked_for(name: str, weights: WeightFormat) -> None:
    engine = create(name, MEASURE)
    assert isinstance(engine, Fused)
    assert engine.settings == {"precision": "auto", "weights": weights}
    engine.use(tiny_whisper(0), generation(2), CPU)
    assert engine.settings["precision"] == "float32"
    assert engine.settings["weights"] == weights


@both
def test_half_is_refused_on_a_cpu(tmp_path: Path, name: str, weights: WeightFormat) -> None:
    measure = MEASURE.model_copy(update={name: PrecisionParams(precision="half")})
    with pytest.raises(UserError, match=rf"measure\.{name}\.precision is half, which needs a GPU"):
        create(name, measure).load(tmp_path, generation(2), CPU)


@both
def test_damaged_weights_are_told_by_its_own_setting(name: str, weights: WeightFormat) -> None:
    model = plain_tiny_whisper(0)
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight[3, 3] = float("nan")
    engine = create(name, MEASURE)
    assert isinstance(engine, Fused)
    engine.use(model, generation(2), CPU)
    with pytest.raises(NotANumberError) as told:
        engine.generate(tiny_features(0))
    assert told.value.setting == f"measure.{name}.precision"


@pytest.mark.gpu
@both
def test_a_gpu_runs_the_chain_and_says_why(device: torch.device, name: str, weights: WeightFormat) -> None:
    if weights == "fp8" and torch.cuda.get_device_capability(device) < (8, 9):
        pytest.skip("this GPU does not convert fp8")
    engine = create(name, MEASURE)
    assert isinstance(engine, Fused)
    engine.use(plain_tiny_whisper(13, width=128, vocabulary=300), generation(5), device)
    assert engine.settings["layers"] == "triton (it reads weights in half precision)"
    assert engine.settings["path"] == "kernels"
    features = tiny_features(1).to(device)
    engine.warm_up(features)
    assert engine.generate(features).tokens
