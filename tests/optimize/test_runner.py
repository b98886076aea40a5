"""All layers in one launch behind optimize_model: on a CPU the launch is emulated, and Triton's kernels interpreted."""

import copy
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForConditionalGeneration

from tests.kernels.emulation import SHARED, emulated
from whisper_speedup import explain_path, last_path, restore_model
from whisper_speedup.errors import EngineLost
from whisper_speedup.fused import one_launch
from whisper_speedup.fused.device_model import DeviceWhisper
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.fused.one_launch import make_one_launch
from whisper_speedup.kernels.persistent_plan import Plan
from whisper_speedup.optimize.decoder_path import DecoderPath
from whisper_speedup.optimize.public import decoder_path, whole_model
from whisper_speedup.optimize.whole_model import WholeModel

HALF = torch.float16
WIDE = Tile(128, 64, 4, 1)  # few programs: the interpreter runs one after the other
LAUNCH = LaunchConfig(qkv=WIDE, out=WIDE, query=WIDE, fc1=WIDE, fc2=WIDE, vocabulary=WIDE, cross_shares=2)
ENGLISH: dict[str, Any] = {"language": "en", "task": "transcribe", "max_new_tokens": 3}
EMULATED: dict[Plan, Callable[..., None]] = {}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A Hopper GPU of 4 multiprocessors, on this CPU. `compiled`: for how many rows, in turn."""
    here = SimpleNamespace(
        name="NVIDIA Fake", major=9, minor=0, multi_processor_count=4, shared_memory_per_block_optin=SHARED,
        compiled=[],
    )  # fmt: skip

    def compiled(plan: Plan) -> Callable[..., None]:
        here.compiled.append(plan.rows)
        if plan not in EMULATED:
            folder = tmp_path / str(len(EMULATED))
            folder.mkdir()
            EMULATED[plan] = emulated(plan, folder)
        return EMULATED[plan]

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: here)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(one_launch, "compiled", compiled)
    monkeypatch.setattr(one_launch, "probe", lambda launch, device: None)
    one_launch._launch.cache_clear()
    yield here
    one_launch._launch.cache_clear()


def plain(seed: int = 11, heads: int = 2) -> WhisperForConditionalGeneration:
    """In fp16, its heads 64 wide as real ones are; it says many tokens."""
    return multilingual_whisper(seed, width=128, heads=heads, layers=1).to(HALF)


def optimised(seed: int = 11, heads: int = 2) -> WhisperForConditionalGeneration:
    """As optimize_model leaves it on a GPU, but for the graphs."""
    model = plain(seed, heads)
    path = DecoderPath(model.model.decoder, LAUNCH)
    path.install()
    WholeModel(model, path).install()
    return model


def speech(seed: int = 1) -> torch.Tensor:
    return tiny_features(seed).to(HALF)


def runners(model: WhisperForConditionalGeneration) -> list[Any]:
    return list(whole_model(model).runners.values())


def decoded(model: WhisperForConditionalGeneration, beams: int, seed: int = 1) -> list[int]:
    found = model.generate(speech(seed), num_beams=beams, **ENGLISH)[0].tolist()
    assert last_path(model).path == "whole model"
    return found


def engines(model: WhisperForConditionalGeneration, seed: int = 1, one: bool = True) -> list[int]:
    """What engine `fused` does with the settings of the last call: its layers in one launch, or the chain."""
    settings, cpu = runners(model)[-1].settings, torch.device("cpu")
    made = make_one_launch(model.config, settings, cpu, HALF) if one else None
    weights = pack_device_weights(model, cpu, HALF, made)
    return DeviceWhisper(model, settings, cpu, HALF, LAUNCH, False, weights).generate(speech(seed)).tokens


def test_it_runs_where_engine_fused_runs_it_and_says_the_same(gpu: SimpleNamespace) -> None:
    model = optimised()
    assert explain_path(model, speech(), **ENGLISH).path == "whole model"
    assert gpu.compiled == [], "asking compiles nothing"
    for beams, seed in ((1, 1), (5, 2)):
        found = decoded(model, beams, seed)
        assert len(found) == 3
        assert found == engines(model, seed) == engines(model, seed, one=False)
    assert decoder_path(model.model.decoder).kernels is None, "the chain's copy of the weights is not made"


@pytest.mark.slow
def test_every_number_of_rows_has_its_launch_over_one_copy_of_the_weights(gpu: SimpleNamespace) -> None:
    model = optimised()
    for beams in (1, 2, 5, 6, 1):  # a prompt of 4 tokens is 4 rows
        found = decoded(model, beams)
        assert runners(model)[-1].weights.one_launch.plan.rows == max(4, beams)
        assert found == engines(model)
    assert gpu.compiled == [4, 5, 6], "each once"
    assert len({one.weights.layers.packed.data_ptr() for one in runners(model)}) == 1
    assert len({id(one.encoder) for one in runners(model)}) == 1
    assert len({one.decoder.persistent.exchange.data_ptr() for one in runners(model)}) == 4


@pytest.mark.slow
def test_new_weights_are_packed_and_nothing_is_compiled(gpu: SimpleNamespace) -> None:
    model = optimised()
    before = decoded(model, 2)
    old = weakref.ref(runners(model)[0].weights.layers.packed)
    model.load_state_dict(plain(6).state_dict())
    found = decoded(model, 2)
    gc.collect()
    assert old() is None, "the old copy is freed"
    assert found == decoded(optimised(6), 2) != before
    assert gpu.compiled == [4]
    with torch.no_grad():
        model.model.decoder.layers[0].fc2.weight.mul_(-4)
    assert decoded(model, 2) == engines(model) != found


def test_restored_and_copied(gpu: SimpleNamespace) -> None:
    model = optimised()
    found = decoded(model, 2)
    other = copy.deepcopy(model)
    packed = weakref.ref(runners(model)[0].weights.layers.packed)
    restore_model(model)
    gc.collect()
    assert packed() is None
    assert whole_model(model) is None
    assert runners(other) == []
    assert decoded(other, 2) == found
    assert gpu.compiled == [4], "several models of one shape share the launch"


def older(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.major = 8


def no_nvrtc(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(plan: Plan) -> None:
        gpu.compiled.append(plan.rows)
        raise RuntimeError("Kernel compilation failed:\nline 1.")

    monkeypatch.setattr(one_launch, "compiled", refuse)


def all_blocks_not_granted(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(launch: Any, device: torch.device) -> None:
        raise RuntimeError("CUDA driver error: too many blocks in cooperative launch (720)")

    monkeypatch.setattr(one_launch, "probe", refuse)


def no_room(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.shared_memory_per_block_optin = 49152


@pytest.mark.parametrize(
    ("change", "heads", "told"),
    [
        pytest.param(older, 2, None, marks=pytest.mark.slow), pytest.param(no_room, 2, None, marks=pytest.mark.slow),
        (None, 4, None),
        (no_nvrtc, 2, r"Triton kernels and not in one launch: NVRTC or .* refuses it \(Kernel .* line 1\)\.$"),
        pytest.param(
            all_blocks_not_granted, 2, r"refuses it \(CUDA driver error: too many blocks in cooperative launch",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["an older GPU", "no room", "narrow heads", "NVRTC refuses it", "the driver refuses it"],
)  # fmt: skip
def test_else_the_chain_runs_over_the_copy_that_the_decoder_path_has(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, change: Any, heads: int, told: str | None
) -> None:
    if change is not None:
        change(gpu, monkeypatch)
    model = optimised(heads=heads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for beams in (1, 2):
            assert decoded(model, beams) == engines(model, one=False)
    ours = [one for one in caught if "whisper_speedup" in str(one.message)]
    if told is None:
        assert ours == []
    else:
        assert len(ours) == 1, "once"
        assert ours[0].filename == __file__, "where generate was called"
        with pytest.warns(UserWarning, match=told):
            warnings.warn(ours[0].message, stacklevel=1)
    assert len(gpu.compiled) <= 1, "what is refused is refused for good"
    weights = decoder_path(model.model.decoder).kernels.weights
    assert all(one.weights is weights for one in runners(model))


@pytest.mark.slow
def test_one_number_of_rows_does_not_fit(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those settings run as the chain, the others go on in one launch; encoder and weights are there once each."""
    plan = one_launch.make_plan
    monkeypatch.setattr(one_launch, "make_plan", lambda *args: plan(*args) if args[4] < 6 else None)
    model = optimised()
    expected = [decoded(model, 1), decoded(model, 6), decoded(model, 7), decoded(model, 1, 2)]
    kinds = [one.weights.one_launch is not None for one in runners(model)]
    assert kinds == [False, False, True]
    assert len({id(one.encoder) for one in runners(model)}) == 1
    for other in (optimised(), optimised()):
        assert [decoded(other, 6), decoded(other, 1)] == [expected[1], expected[0]]


@pytest.mark.slow
def test_calls_of_both_paths_take_turns(gpu: SimpleNamespace) -> None:
    model = optimised()
    found = decoded(model, 3)
    result = model.generate(speech(), num_beams=3, return_dict_in_generate=True, **ENGLISH)
    assert last_path(model).path == "decoder"
    assert result["sequences"][0].tolist()[4:] == found
    assert decoded(model, 3) == found
    assert runners(model)[0].weights.one_launch is not None


def test_threads_that_share_a_model_do_not_meet(gpu: SimpleNamespace) -> None:
    model = optimised()
    expected = [decoded(model, 1, seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: model.generate(speech(seed), **ENGLISH)[0].tolist(), [1, 2] * 2))
    assert found == expected * 2


@pytest.mark.parametrize("gives_up", [True, False])
def test_a_launch_that_gives_up_is_one_sentence_now_and_later(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    """A GPU's error of another kind is not ours to explain."""

    def launch(*args: Any) -> None:
        args[16].fill_(int(gives_up))
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    def lost(*args: Any) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    launches = iter([launch, lost])
    monkeypatch.setattr(one_launch, "compiled", lambda plan: next(launches))
    model = optimised()
    for beams in (1, 1, 5):  # other settings meet a GPU that is lost
        with pytest.raises(EngineLost if gives_up else torch.AcceleratorError) as ended:
            model.generate(speech(), num_beams=beams, **ENGLISH)
        if gives_up:
            said = str(ended.value)
            assert said.startswith("the decoder's one launch gave up waiting")
            assert "\n" not in said
            assert "measure." not in said, "that is the benchmark's setting"
    assert last_path(model) is None


def test_a_launch_that_gives_up_in_a_later_window(gpu: SimpleNamespace) -> None:
    """Its decoder is another one; the sentence is the same."""
    model = optimised()
    decoded(model, 1)
    [runner] = runners(model)
    seen: list[Any] = []
    make = runner._decoder

    def later(positions: int) -> Any:
        decoder = make(positions)
        seen.append(decoder)
        return decoder

    runner._decoder = later
    runner._window(torch.zeros(1, 8, 40), segment=1, longest=False, meanwhile=None)
    assert seen[0].persistent is not runner.decoder.persistent
    seen[0].persistent.gave_up.fill_(1)
    assert runner.gave_up()
