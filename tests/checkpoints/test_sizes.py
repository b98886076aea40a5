import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.hub.content import tiny_whisper
from whisper_speedup.checkpoints.sizes import SIZES, parameters
from whisper_speedup.checkpoints.synthetic import config
from whisper_speedup.params.sources import SyntheticSize


@pytest.mark.parametrize("size", ["tiny.en", "base", "large-v2", "large-v3-turbo"])
def test_the_formula_counts_what_transformers_makes(size: SyntheticSize) -> None:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config(size)))
    model.tie_weights()
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert SIZES[size].parameters == expected == parameters(config(size))


def test_a_shape_that_nobody_published() -> None:
    import json

    files, weights = tiny_whisper(multilingual=True, seed=0)
    assert parameters(json.loads(files["config.json"])) == sum(value.numel() for value in weights.values())
