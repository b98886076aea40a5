"""transformers with its static cache and compiled forwards: the baseline's tokens, compiled once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.engines.test_huggingface import engine, generation
from tests.tiny_whisper import multilingual_whisper, tiny_features
from whisper_speedup.engines.compiled import Compiled
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.errors import UserError

CPU = torch.device("cpu")


def compiled(backend: Any) -> Compiled:
    torch._dynamo.reset()
    return Compiled(PrecisionParams(), backend)


@pytest.mark.parametrize("beams", [1, 5])
def test_the_baselines_tokens_and_two_graphs_for_any_number_of_utterances(beams: int) -> None:
    asked = generation(num_beams=beams, max_length=14)
    whole, plain = compiled(counter := CompileCounter()), engine()
    whole.use(multilingual_whisper(3, eos_bias=0.0), asked, CPU)
    plain.use(multilingual_whisper(3, eos_bias=0.0), asked, CPU)
    whole.warm_up(tiny_features(9))
    assert counter.frame_count == 2  # the encoder, and a step of all beams
    for seed in range(4):
        found, expected = whole.generate(tiny_features(seed)), plain.generate(tiny_features(seed))
        assert dataclasses.astuple(found)[:3] == dataclasses.astuple(expected)[:3]
        assert found.encoder_states is not None
    assert counter.frame_count == 2
    assert (whole.prompt, whole.dtype, whole.settings["cache"]) == ([2, 20, 30, 75], "float32", "static")
    whole.close()


def test_without_a_cpp_compiler_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "g++"),))
    with pytest.raises(UserError, match=r"^engine compiled needs a C\+\+ compiler on a CPU"):
        compiled("inductor").load(tmp_path / "nowhere", generation(), CPU)
