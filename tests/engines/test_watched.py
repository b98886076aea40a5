"""Engines that tell where the time goes: parts that belong together, the same tokens, and nothing left behind."""

from pathlib import Path

import pytest
import torch

from tests.engines.test_fused import MEASURE, generation
from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.create import create
from whisper_speedup.engines.protocol import Watched
from whisper_speedup.measure.parts import Stopwatch

CPU = torch.device("cpu")


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["huggingface", "kernl", "fused", "kernl_phantom"])
def test_parts_of_one_utterance(tmp_path: Path, name: str, beams: int) -> None:
    tiny_whisper(3).save_pretrained(tmp_path)
    engine = create(name, MEASURE)
    engine.load(tmp_path, generation(beams), CPU)
    assert isinstance(engine, Watched)
    alone = engine.generate(tiny_features(3)).tokens
    assert alone
    stopwatch = Stopwatch(CPU)
    engine.watch(stopwatch)
    assert engine.generate(tiny_features(3)).tokens == alone
    engine.watch(None)
    counted = dict(stopwatch.entries)
    assert counted["encoder"] == counted["prefill"] == 1
    # The prompt's pass chooses the first token; a beam search may go on behind the best hypothesis.
    assert counted["steps"] >= len(alone) - 1
    assert all(seconds > 0 for seconds in stopwatch.seconds.values())
    engine.generate(tiny_features(3))
    assert stopwatch.entries == counted
    engine.close()
