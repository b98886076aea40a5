"""The search for a launch configuration, with a timer that knows the answer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny_whisper import tiny_whisper
from whisper_speedup.checkpoints import synthetic
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.huggingface import prompt_tokens
from whisper_speedup.errors import UserError
from whisper_speedup.fused import launch, tuning
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.launch import LaunchConfig, Tile, load_launch_config
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.fused.tuning import CANDIDATES, tune, tuned_launch_config

START = LaunchConfig()
CHANGES: list[dict[str, Any]] = [
    {"cross_shares": 4}, {"cross_shares": 12}, {"self_warps": 2}, {"self_warps": 1}, {"update_warps": 8},
]  # fmt: skip
GAINS = {("cross_shares", 4): 0.1, ("cross_shares", 12): 0.2, ("self_warps", 1): 0.05, ("update_warps", 8): -0.3}


class Clock:
    """Seconds that pass only when something is timed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timer:
    """2 ms less what GAINS says; `broken` changes cannot be run. Each timing takes 10 s of `clock`."""

    def __init__(self, clock: Clock, broken: dict[str, Exception] | None = None) -> None:
        self.clock, self.broken = clock, broken or {}
        self.seen: list[LaunchConfig] = []

    def __call__(self, config: LaunchConfig) -> float:
        self.seen.append(config)
        self.clock.now += 10
        for name, error in self.broken.items():
            if getattr(config, name) != getattr(START, name):
                raise error
        return 2.0 - sum(gain for (name, value), gain in GAINS.items() if getattr(config, name) == value)


def test_it_finds_the_fastest() -> None:
    tuned = tune(START, Timer(Clock()), budget_s=1000, candidates=CHANGES)
    assert tuned.config == replace(START, cross_shares=12, self_warps=1)
    assert (tuned.start_ms, tuned.step_ms) == (2.0, pytest.approx(1.75))
    assert [row["kept"] for row in tuned.rows] == [True, True, True, False, True, False]


def test_a_candidate_that_cannot_run_is_left_out() -> None:
    lines: list[str] = []
    timer = Timer(Clock(), {"cross_shares": RuntimeError("out of resource")})
    tuned = tune(START, timer, budget_s=1000, candidates=CHANGES, say=lines.append)
    assert tuned.config == replace(START, self_warps=1)
    assert [row["step_ms"] is None for row in tuned.rows] == [False, True, True, False, False, False]
    assert "{'cross_shares': 4}: RuntimeError" in lines


def test_a_gpu_that_died_ends_the_search() -> None:
    def settle() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        tune(START, Timer(Clock(), {"self_warps": ValueError()}), 1000, CHANGES, settle=settle)


def test_full_memory_ends_the_search() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        tune(START, Timer(Clock(), {"cross_shares": torch.OutOfMemoryError("full")}), 1000, CHANGES)


def test_it_stops_when_its_time_is_over() -> None:
    clock, lines = Clock(), list[str]()
    timer = Timer(clock)
    tuned = tune(START, timer, budget_s=35, candidates=CHANGES, clock=clock, say=lines.append)
    # Two of the start, two candidates, and the last two side by side.
    assert len(timer.seen) == 6
    assert tuned.config == replace(START, cross_shares=12)
    assert lines[-1] == "out of time"


def test_no_time_at_all_keeps_the_start() -> None:
    clock = Clock()
    assert tune(START, Timer(clock), budget_s=0, candidates=CHANGES, clock=clock).config == START


def test_an_improvement_that_does_not_last_is_given_up() -> None:
    """The first timing of the start was slow: the clocks were not up yet."""
    slow = iter([3.0, 3.0, 2.9])
    tuned = tune(START, lambda config: next(slow, 1.0 if config == START else 1.1), 1000, CHANGES[:1])
    assert (tuned.config, tuned.step_ms) == (START, 1.0)


def test_what_is_the_start_already_is_not_timed_again() -> None:
    timer = Timer(Clock())
    tune(START, timer, 1000, [{"cross_shares": START.cross_shares}])
    assert len(timer.seen) == 3


def test_the_candidates_are_configurations() -> None:
    for change in CANDIDATES:
        config = replace(START, **change)
        assert config != START or change == {}
        assert isinstance(config.qkv, Tile)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], SimpleNamespace]:
    """An unknown GPU with an empty cache, whose steps the fake timer times; called with a compute capability."""

    def make(major: int) -> SimpleNamespace:
        timer = Timer(Clock())
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(launch, "FOLDER", tmp_path / "none")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Fake")
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(tuning, "StepTimer", lambda *arguments: timer)
        model = tiny_whisper(1)
        arguments = {"num_beams": 2, "do_sample": False, "min_length": 1, "max_length": 4}
        settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
        weights = pack_device_weights(model, torch.device("cpu"), torch.float32)
        return SimpleNamespace(timer=timer, weights=weights, settings=settings, model=model)

    return make


def test_an_unknown_gpu_is_tuned_once(
    gpu: Callable[[int], SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    fake = gpu(9)
    first = tuned_launch_config("NVIDIA Fake", fake.weights, fake.settings, 20)
    assert first.cross_shares == 12
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "tuning the fused kernels for NVIDIA Fake at width 32, once, for about 30 s" in lines[0]
    assert "a step in 2.000 ms before, 1.7" in lines[1]
    again = load_launch_config("NVIDIA Fake", 32)
    assert (again, again.source) == (first, first.source) == (first, "user cache")


@pytest.mark.parametrize(("major", "tried"), [(8, False), (9, True)])
def test_dependent_launch_is_tried_where_there_is_such(
    gpu: Callable[[int], SimpleNamespace], major: int, tried: bool
) -> None:
    fake = gpu(major)
    tuned_launch_config("NVIDIA Fake", fake.weights, fake.settings, 20)
    assert any(config.pdl != START.pdl for config in fake.timer.seen) == tried


@pytest.mark.parametrize(("tune", "source", "timed"), [("auto", "user cache", True), ("never", "default", False)])
def test_the_engine_tunes_when_it_may(
    gpu: Callable[[int], SimpleNamespace], monkeypatch: pytest.MonkeyPatch, tune: Any, source: str, timed: bool
) -> None:
    fake = gpu(9)
    monkeypatch.setattr("whisper_speedup.fused.device_model.DeviceWhisper", SimpleNamespace)
    monkeypatch.setattr(
        "whisper_speedup.fused.device_model.DeviceWhisper",
        lambda model, settings, device, dtype, launch, weights, encoder_graph: SimpleNamespace(
            launch=launch, weights=weights
        ),
    )
    for _ in range(2):
        before = len(fake.timer.seen)
        engine = Fused(FusedParams(precision="half", tune=tune, layers="triton"))
        engine.device = torch.device("cpu")
        engine._use_kernels(fake.model, fake.settings, torch.float32, one_launch=None, encoder_graph=True)
        assert engine.settings["launch"]["source"] == engine.model.launch.source == source
        assert (len(fake.timer.seen) > before) == timed
        timed = False  # the second time it is known


class Refuses:
    """A device model that cannot be built with any configuration in `bad`."""

    def __init__(self, launch: LaunchConfig, bad: tuple[LaunchConfig, ...]) -> None:
        self.launch, self.bad, self.warm = launch, bad, 0

    def relaunch(self, launch: LaunchConfig) -> None:
        self.launch = launch

    def gave_up(self) -> bool:
        return False

    def warm_up(self, features: torch.Tensor) -> None:
        from triton.runtime.errors import OutOfResources

        if self.launch in self.bad:
            raise OutOfResources(300000, 232448, "shared memory")
        self.warm += 1


def refusing(bad: tuple[LaunchConfig, ...], launch: LaunchConfig) -> Fused:
    engine = Fused(FusedParams(precision="half"))
    engine.model = Refuses(launch, bad)
    engine.settings["launch"] = launch.as_dict()
    return engine


def test_a_kept_configuration_that_no_longer_builds_gives_way_to_the_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tuned = LaunchConfig(cross_shares=12, source="user cache")
    engine = refusing((tuned,), tuned)
    engine.warm_up(torch.zeros(1))
    assert engine.model.warm == 1
    assert engine.settings["launch"] == LaunchConfig().as_dict()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "(user cache) cannot be built here, so the default is used: out of resource: shared memory" in err


def test_a_default_that_does_not_build_is_one_sentence() -> None:
    tuned = LaunchConfig(cross_shares=12, source="repository")
    for start in (LaunchConfig(), tuned):
        with pytest.raises(UserError, match="Triton cannot build the fused kernels for this GPU"):
            refusing((LaunchConfig(), tuned), start).warm_up(torch.zeros(1))


@pytest.mark.gpu
def test_a_real_step_is_timed_and_leaves_nothing() -> None:
    device = torch.device("cuda")
    model = synthetic.make("tiny.en", 0, device, torch.float16)
    arguments = {"num_beams": 5, "do_sample": False, "min_length": 1, "max_length": 50}
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    timer = tuning.StepTimer(pack_device_weights(model, device, torch.float16), settings, 1500)
    timer(START)  # cuBLAS and Triton keep workspaces from their first use on
    before = torch.cuda.memory_allocated()
    tuned = tune(START, timer, 60, [{"fc1": Tile(128, 512, 8, 8)}, {"update_warps": 8}], settle=torch.cuda.synchronize)
    assert tuned.rows[1]["step_ms"] is None, "more shared memory than there is"
    assert tuned.rows[2]["step_ms"] > 0
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == before
