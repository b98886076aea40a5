from pathlib import Path

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.engines.kernl import Kernl, KernlParams
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def generation(num_beams: int) -> GenerationParams:
    return GenerationParams(num_beams=num_beams, max_length=10)


@pytest.mark.parametrize("beams", [1, 4])
def test_the_same_tokens_as_the_baseline_from_a_folder(tmp_path: Path, beams: int) -> None:
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        tiny_whisper(seed).save_pretrained(folder)
        baseline = HuggingFace(BaselineParams())
        engine = Kernl(KernlParams())
        found = []
        for one in (baseline, engine):
            one.load(folder, generation(beams), CPU)
            one.warm_up(tiny_features(seed))
            found.append(one.generate(tiny_features(seed)))
            assert (one.dtype, one.prompt) == ("float32", [2])
            one.close()
        assert found[0] == found[1]
        assert engine.settings == {"precision": "float32", "path": "plain torch"}


@pytest.mark.parametrize("precision", ["half", "autocast"])
def test_a_gpus_precision_is_refused_on_a_cpu(tmp_path: Path, precision: str) -> None:
    with pytest.raises(UserError, match=rf"measure\.kernl\.precision is {precision}, which needs a GPU"):
        Kernl(KernlParams(precision=precision)).load(tmp_path, generation(2), CPU)


def test_a_decoder_that_would_not_be_ours_is_refused_in_the_warm_up() -> None:
    engine = Kernl(KernlParams(precision="float32"))
    model = tiny_whisper(0)
    engine.use(model, generation(2), CPU)
    model.generation_config.cache_implementation = "static"
    with pytest.warns(UserWarning, match="whisper_speedup"), pytest.raises(UserError, match="engine kernl cannot"):
        engine.warm_up(tiny_features(0))
