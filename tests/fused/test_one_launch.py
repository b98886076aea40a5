"""The engine with its layers in one launch, against transformers; on a CPU that launch is emulated (tests/kernels)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.fused.test_device_decoder import (
    LAUNCH,
    TIE,
    arguments_of,
    case,
    halves,
    plain_tiny_whisper,
    several_beams,
    shortfall,
    speech,
)  # fmt: skip
from tests.kernels.emulation import SHARED, emulated
from tests.tiny_whisper import tiny_features
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.fused import one_launch
from whisper_speedup.fused.device_model import DeviceWhisper
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.one_launch import NoOneLaunch, OneLaunch, RefusedLaunch, make_one_launch
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.kernels.persistent_plan import make_plan

CPU, START, NO_TIMESTAMPS = torch.device("cpu"), 2, 39
HALF = torch.float16


def whisper(
    model: Any, settings: DecodingSettings, one: OneLaunch, device: torch.device = CPU, half: torch.dtype = HALF,
    launch: LaunchConfig = LAUNCH, graphs: bool = False,
) -> DeviceWhisper:  # fmt: skip
    weights = pack_device_weights(model, device, half, one)
    return DeviceWhisper(model, settings, device, half, launch, graphs=graphs, weights=weights)


@pytest.fixture(scope="module")
def emulated_launch(tmp_path_factory: pytest.TempPathFactory) -> OneLaunch:
    """For the tiny model, 128 wide, and up to 5 rows, on 4 blocks."""
    plan = make_plan(128, 64, 2, 20, 5, 4, SHARED)
    assert plan is not None
    return OneLaunch(plan, emulated(plan, tmp_path_factory.mktemp("emulated")), 1e-5)


@pytest.mark.parametrize("beams", [1, 5])
def test_finds_what_transformers_finds(emulated_launch: OneLaunch, beams: int) -> None:
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(beams, 6)
    engine = whisper(model, decoding_settings(model, arguments, [START]), emulated_launch)
    assert engine.weights.arena.flat.numel() == 300 * 128, "the layers' matrices are in memory once"
    features = speech(1, CPU)[0]
    best = engine.generate(features)
    assert best.tokens
    assert shortfall(model, features, arguments, best) < TIE[HALF]


@pytest.mark.slow
def test_a_prompt_and_a_second_window(emulated_launch: OneLaunch) -> None:
    """Two timestamps in a row: the rest of the window is decoded anew, over the same keys of cross-attention."""
    model = plain_tiny_whisper(26, vocabulary=60, timestamps=True, width=128)  # 23 has a tie, which processors break
    arguments = arguments_of(2, 5)
    engine = whisper(model, decoding_settings(model, arguments, [START, NO_TIMESTAMPS]), emulated_launch)
    found = engine.generate(tiny_features(23))
    assert len(found.tokens) > 5, "more than one window's"
    chain = DeviceWhisper(model, engine.settings, CPU, HALF, LAUNCH, graphs=False)
    assert found.tokens == chain.generate(tiny_features(23)).tokens


def test_the_step_behind_the_end_changes_nothing(emulated_launch: OneLaunch) -> None:
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(2, 3)
    engine = whisper(model, decoding_settings(model, arguments, [START]), emulated_launch)
    best = engine.generate(speech(1, CPU)[0])
    decoder = engine.decoder
    before = [one.clone() for one in (decoder.state.result, decoder.keys, decoder.stream.residual)]
    decoder.step(1, engine.settings.max_total(0), 1)
    after = (decoder.state.result, decoder.keys, decoder.stream.residual)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert engine.generate(speech(1, CPU)[0]) == best


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    gpu = SimpleNamespace(
        name="NVIDIA Fake", major=9, minor=0, multi_processor_count=132, shared_memory_per_block_optin=SHARED
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    one_launch._launch.cache_clear()
    yield gpu
    one_launch._launch.cache_clear()


def settings_of(beams: int, prompt: tuple[int, ...] = (START,)) -> tuple[Any, DecodingSettings]:
    model = plain_tiny_whisper(1, width=128)
    return model, decoding_settings(model, arguments_of(beams, 4), [*prompt])


def test_why_there_is_none(hopper: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = settings_of(5)
    with pytest.raises(NoOneLaunch, match="a decoder 128 wide with 9 rows in float16 does not fit 132"):
        make_one_launch(model.config, replace(settings, prompt=(2,) * 9), CPU, HALF)
    with pytest.raises(NoOneLaunch, match="in float32 does not fit"):
        make_one_launch(model.config, settings, CPU, torch.float32)
    with pytest.raises(NoOneLaunch, match="its heads are 64 wide, and the model's are 16"):
        make_one_launch(plain_tiny_whisper(1).config, settings, CPU, HALF)
    hopper.major, hopper.minor = 8, 6
    with pytest.raises(NoOneLaunch, match=r"NVIDIA Fake has compute capability 8\.6, and it needs 9\.0"):
        make_one_launch(model.config, settings, CPU, HALF)


@pytest.mark.parametrize("error", [OSError("no NVRTC"), RuntimeError("Kernel compilation failed:\nline 1")])
def test_what_nvrtc_refuses_is_said_once_and_the_chain_runs(
    hopper: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(plan: Any) -> None:
        tried.append(plan)
        raise error

    tried = []
    monkeypatch.setattr(one_launch, "compiled", refuse)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    model, settings = settings_of(2)
    with pytest.raises(RefusedLaunch, match="NVRTC or the driver refuses it"):
        make_one_launch(model.config, settings, CPU, HALF)
    engine = fused("auto")
    none, why = engine._one_launch(model, settings, HALF)
    assert none is None
    assert why is not None
    assert why.startswith("NVRTC or the driver refuses it")
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError, match=r"measure\.fused\.layers is persistent, but NVRTC .*: say auto or triton\."):
        fused("persistent")._one_launch(model, settings, HALF)
    assert len(tried) == 1


def test_a_full_gpu_refuses_nothing_for_good(hopper: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(launch: Any, device: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    monkeypatch.setattr(one_launch, "compiled", lambda plan: len)
    monkeypatch.setattr(one_launch, "probe", full)
    model, settings = settings_of(2)
    with pytest.raises(torch.OutOfMemoryError):
        make_one_launch(model.config, settings, CPU, HALF)
    monkeypatch.setattr(one_launch, "probe", lambda launch, device: None)
    assert make_one_launch(model.config, settings, CPU, HALF).launch is len


def fused(layers: Any) -> Fused:
    engine = Fused(FusedParams(precision="half", tune="never", layers=layers))
    engine.device = CPU
    return engine


def test_an_older_gpu_is_no_news(hopper: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    hopper.major = 8
    engine = fused("auto")
    none, why = engine._one_launch(*settings_of(2), HALF)
    assert none is None
    assert "compute capability 8.0" in str(why)
    assert capsys.readouterr().err == ""
    assert fused("triton")._one_launch(*settings_of(2), HALF) == (None, "measure.fused.layers is triton")


def test_a_launch_that_gives_up_is_one_sentence() -> None:
    def generate(features: torch.Tensor) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    engine = fused("auto")
    for gave_up, error in ((True, EngineLost), (False, RuntimeError)):
        engine.model = SimpleNamespace(generate=generate, warm_up=generate, gave_up=lambda gave_up=gave_up: gave_up)
        for call in (engine.generate, engine.warm_up):
            with pytest.raises(error, match="gave up waiting" if gave_up else "unspecified"):
                call(torch.zeros(1))


def captured(beams: int, device: torch.device, half: torch.dtype) -> DeviceWhisper:
    model, arguments = case(beams)
    settings = decoding_settings(model, arguments, [START])
    try:
        one = make_one_launch(model.config, settings, device, half)
    except NoOneLaunch as why:
        pytest.skip(str(why))
    engine = whisper(model, settings, one, device, half, LaunchConfig(), graphs=True)
    engine.warm_up(tiny_features(99).to(device))
    assert {"encode", "prompt", "step", "10 steps", "9 steps"} == engine.graphs.keys()  # 19 behind the prompt
    return engine


@pytest.mark.gpu
@halves
@several_beams
def test_graphs_find_what_transformers_finds_in_fp32(device: torch.device, half: torch.dtype, beams: int) -> None:
    """But for one utterance: a beam that is dropped at a near tie can end up worse than the tie was. With 2 beams in
    fp16 the third one does, here and in the emulation, where the states miss fp32's by as much as the chain's."""
    model, arguments = case(beams)
    engine = captured(beams, device, half)
    missed = [shortfall(model, one.cpu(), arguments, engine.generate(one)) for one in speech(20, device)]
    assert sum(gap >= TIE[half] for gap in missed) <= 1, missed
    assert max(missed) < 3 * TIE[half], missed


@pytest.mark.gpu
@halves
@several_beams
def test_every_run_gives_the_same_tokens_and_scores(device: torch.device, half: torch.dtype, beams: int) -> None:
    engine = captured(beams, device, half)
    utterances = speech(20, device)
    first = [engine.generate(features) for features in utterances]
    for _ in range(5):
        assert [engine.generate(features) for features in utterances] == first


@pytest.mark.gpu
def test_other_work_on_the_gpu_does_not_stop_it(device: torch.device) -> None:
    """Another stream's kernels hold multiprocessors: the launch waits for all of its blocks' room."""
    engine = captured(2, device, HALF)
    features = speech(1, device)[0]
    expected = engine.generate(features)
    other = torch.cuda.Stream(device)
    busy = torch.randn(4096, 4096, device=device, dtype=HALF)
    with torch.cuda.stream(other):
        for _ in range(200):
            busy = (busy @ busy).clamp_(-1, 1)
    for _ in range(20):
        assert engine.generate(features) == expected
    torch.cuda.synchronize(device)


@pytest.mark.gpu
def test_a_launch_that_waits_for_ever_is_given_up(device: torch.device, tmp_path: Path) -> None:
    """In a process of its own, for the GPU's context does not survive it: with no patience at all."""
    script = """
import torch
from tests.fused.test_one_launch import captured, speech
from whisper_speedup.kernels import persistent_plan
persistent_plan.PATIENCE = 1
device = torch.device("cuda")
try:
    captured(2, device, torch.float16)
except RuntimeError as error:
    print("CUDA said:", str(error).splitlines()[0])
    import gc
    from whisper_speedup.fused.device_model import DeviceWhisper
    [engine] = [one for one in gc.get_objects() if isinstance(one, DeviceWhisper)]
    print("gave up:", engine.gave_up())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env=environment)
    assert "gave up: True" in done.stdout, done.stdout + done.stderr
