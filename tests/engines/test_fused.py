from pathlib import Path

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.create import create
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams, MeasureParams

CPU = torch.device("cpu")
MEASURE = MeasureParams.model_validate(
    {"device": "cpu", "threads": 1, "fused": {"tune": "never"}, "fused_batch": {"slots": 3}, "rounds": None}
)


def generation(num_beams: int) -> GenerationParams:
    return GenerationParams(num_beams=num_beams, max_length=20)


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_the_same_tokens_as_the_baseline_from_a_folder(tmp_path: Path, beams: int) -> None:
    lengths = set()
    for seed in range(4):
        folder = tmp_path / str(seed)
        tiny_whisper(seed).save_pretrained(folder)
        found = []
        for name in ("huggingface", "fused"):
            engine = create(name, MEASURE)
            engine.load(folder, generation(beams), CPU)
            engine.warm_up(tiny_features(seed))
            found.append(engine.generate(tiny_features(seed)))
            assert (engine.name, engine.dtype, engine.prompt) == (name, "float32", [2])
            engine.close()
        assert found[0].tokens == found[1].tokens
        assert found[0].truncated == found[1].truncated
        lengths.add(len(found[1].tokens))
    assert lengths - {0}


def test_its_score_is_a_number(tmp_path: Path) -> None:
    engine = Fused(FusedParams(precision="float32", tune="never"))
    engine.use(tiny_whisper(1), generation(3), CPU)
    score = engine.generate(tiny_features(1)).score
    assert score is not None
    assert score < 0


def test_half_is_refused_on_a_cpu(tmp_path: Path) -> None:
    engine = Fused(FusedParams(precision="half", tune="never"))
    with pytest.raises(UserError, match=r"measure\.fused\.precision is half, which needs a GPU"):
        engine.load(tmp_path, generation(2), CPU)


def test_auto_is_recorded_as_what_ran() -> None:
    engine = Fused(FusedParams(tune="never"))
    engine.use(tiny_whisper(0), generation(2), CPU)
    assert engine.settings["precision"] == "float32"


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UserError, match="there is no engine 'fsued'"):
        create("fsued", MEASURE)
