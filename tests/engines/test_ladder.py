"""The rungs of profiles/ladder.yaml as engines: from a folder, the baseline's tokens, or left out with a reason."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.test_fused import generation
from tests.fused.test_device_decoder import plain_tiny_whisper
from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.create import create
from whisper_speedup.errors import LeftOutError, UserError
from whisper_speedup.fused.switches import PLAIN_SWITCHES, SWITCHES
from whisper_speedup.params.engines import RUNG
from whisper_speedup.params.profile import MeasureParams, load_profile

CPU = torch.device("cpu")
LADDER = load_profile("ladder", Path(__file__).parents[2] / "profiles")
MEASURE = LADDER.measure
RUNGS: dict[str, list[str]] = MEASURE.of("ladder").root
ON_A_CPU = ["own_loop", "shared_cross_attention", "ancestry"]


def decoded(name: str, folder: Path, beams: int) -> tuple[Any, Any]:
    engine = create(name, MEASURE)
    engine.load(folder, generation(beams), CPU)
    engine.warm_up(tiny_features(1))
    return engine.generate(tiny_features(1)), engine


@pytest.mark.parametrize("beams", [1, 5])
def test_each_rung_of_a_cpu_decodes_what_the_baseline_does(tmp_path: Path, beams: int) -> None:
    for seed in (2, 3):
        folder = tmp_path / str(seed)
        tiny_whisper(seed).save_pretrained(folder)
        expected, _ = decoded("huggingface", folder, beams)
        for rung in ON_A_CPU:
            found, engine = decoded(RUNG + rung, folder, beams)
            assert found.tokens == expected.tokens
            assert (engine.name, engine.settings["on"]) == (RUNG + rung, RUNGS[rung])
        whole, engine = decoded("fused", folder, beams)
        assert whole.tokens == expected.tokens
        assert engine.settings["on"] == list(PLAIN_SWITCHES)


def test_the_others_are_left_out_before_the_weights_are_read(tmp_path: Path) -> None:
    left_out = [rung for rung in RUNGS if rung not in ON_A_CPU]
    assert left_out == ["packed_weights", "step_graph", "device_search", "kernels", "encoder_graph"]
    for rung in left_out:
        with pytest.raises(LeftOutError, match=f"^ladder.{rung} is left out, because "):
            create(RUNG + rung, MEASURE).load(tmp_path / "nowhere", generation(2), CPU)


def test_the_profile_climbs_one_part_at_a_time_and_ends_at_fused() -> None:
    rungs = [name.removeprefix(RUNG) for name in LADDER.engines[:-1]]
    assert rungs == list(RUNGS)
    assert LADDER.engines[-1] == "fused"
    steps = [*RUNGS.values(), list(SWITCHES)]
    assert steps[0] == []
    for below, above in itertools.pairwise(steps):
        assert set(above) > set(below)
        assert len(above) == len(below) + 1


def test_a_rung_that_the_profile_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"no rung for ladder\.roof: its rungs are ladder\.own_loop, "):
        create("ladder.roof", MEASURE)
    with pytest.raises(UserError, match="its rungs are none"):
        create("ladder.roof", MeasureParams.model_validate({**MEASURE.model_dump(), "ladder": {}}))


@pytest.mark.gpu
@pytest.mark.parametrize("rung", [*RUNGS, None], ids=str)
def test_each_rung_of_a_gpu(device: torch.device, rung: str | None) -> None:
    """In fp16 or under autocast: tokens near enough to decode, parts where they should be; parity.py counts texts."""
    model = plain_tiny_whisper(13, width=128, vocabulary=300)
    engine: Any = create("fused" if rung is None else RUNG + rung, MEASURE)
    engine.use(model, generation(5), device)
    on = set(SWITCHES if rung is None else RUNGS[rung])
    assert set(engine.settings["on"]) == on
    assert engine.settings["precision"] == ("half" if "packed_weights" in on else "autocast")
    for seed in range(3):
        engine.warm_up(tiny_features(seed).to(device))
        assert engine.generate(tiny_features(seed).to(device)).tokens
    graphs = getattr(engine.model, "graphs", {})
    assert bool(graphs) == ("step_graph" in on)
    assert ("step" in graphs) == ("kernels" in on)
    assert ("encode" in graphs) == ("encoder_graph" in on)
    assert (getattr(engine.model, "search", None) is not None) == ("device_search" in on and "kernels" not in on)
    engine.close()
