"""What a GPU that the kernels cannot run on is told, with every GPU here a fake one."""

import builtins
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny_whisper import tiny_whisper
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.fused_batch import FusedBatch
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace, prompt_tokens
from whisper_speedup.errors import UserError
from whisper_speedup.fused.device_checks import check_device, check_fp8, needed_bytes, refused, triton_errors
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params.profile import GenerationParams

CUDA = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An H100 with Triton on it, as a test may change it."""
    driver = SimpleNamespace(active=SimpleNamespace(get_current_device=lambda: 0))
    triton = SimpleNamespace(__version__="3.6.0+git1", runtime=SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Fake")
    return triton


def told(match: str) -> None:
    with pytest.raises(UserError, match=match) as refused:
        check_device(CUDA)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_a_good_gpu_passes(gpu: SimpleNamespace) -> None:
    check_device(CUDA)


def test_an_old_gpu(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    told(r"^NVIDIA Fake has compute capability 7\.5, .* need 8\.0 .*: say measure\.fused\.precision: float32")


def test_the_setting_is_the_asking_engines(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = FusedBatch.setting
    with pytest.raises(UserError, match=r"say measure\.fused_batch\.precision: float32"), triton_errors(setting):
        raise RuntimeError("Failed to find C compiler.")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(UserError, match=r"say measure\.fused_batch\.precision: float32"):
        check_device(CUDA, setting)


def test_fp8_needs_a_gpu_that_converts_it(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    check_fp8(CUDA, "measure.fused_fp8.precision")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    check_fp8(CUDA, "measure.fused_fp8.precision")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(UserError) as refused:
        check_fp8(CUDA, "measure.fused_fp8.precision")
    assert str(refused.value) == (
        "NVIDIA Fake has compute capability 8.6, and fp8 weights need 8.9 (Ada, Hopper) or newer: run fused_int8 in its"
        " place, or say measure.fused_fp8.precision: float32 for the plain path."
    )


def test_no_triton(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "triton":
            raise ModuleNotFoundError("No module named 'triton'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    told(r"need Triton, which cannot be imported \(No module named 'triton'\): run pip install triton, or say measure")


def test_an_old_triton(gpu: SimpleNamespace) -> None:
    gpu.__version__ = "3.5.1"
    told(r"^Triton 3\.5\.1 is installed, and the fused kernels need 3\.6")


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (RuntimeError("Failed to find C compiler. Please specify via CC environment"), "finds no C compiler.*gcc pyth"),
        (subprocess.CalledProcessError(1, ["gcc", "main.c"]), "C compiler failed .*Python's headers"),
        (RuntimeError("0 active drivers ([]). There should only be one."), "Triton finds no driver for this GPU"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_triton_that_cannot_start(gpu: SimpleNamespace, error: Exception, match: str) -> None:
    def fail() -> None:
        raise error

    gpu.runtime.driver.active.get_current_device = fail
    told(match)


def test_a_gpu_that_triton_does_not_know() -> None:
    from triton.runtime.errors import OutOfResources, PTXASError

    for error in (PTXASError("ptxas fatal:\nValue 'sm_120a' is not defined"), OutOfResources(300000, 232448, "shared")):
        assert refused(error)
        with (
            pytest.raises(UserError, match="Triton cannot build the fused kernels for this GPU") as said,
            triton_errors(),
        ):
            raise error
        assert "\n" not in str(said.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("C compiler"), torch.OutOfMemoryError("full")])
def test_other_errors_pass(error: Exception) -> None:
    assert not refused(error)
    with pytest.raises(type(error)) as passed, triton_errors():
        raise error
    assert passed.value is error


def test_needed_bytes_are_the_weights_once_and_the_keys_and_values() -> None:
    model = tiny_whisper(0)
    arguments = {"num_beams": 3, "do_sample": False, "min_length": 1, "max_length": 7}
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    decoder = model.model.decoder
    weights = sum(p.numel() for p in model.model.encoder.parameters()) + sum(p.numel() for p in decoder.parameters())
    states = len(decoder.layers) * 2 * 32 * (20 + 3 * (7 + len(settings.prompt)))
    assert needed_bytes(model, settings, torch.float16) == 2 * (weights + states)
    assert needed_bytes(model, settings, torch.float32) == 4 * (weights + states)
    attentions = [module for layer in decoder.layers for module in (layer.self_attn, layer.encoder_attn)]
    rounded = sum(m.q_proj.weight.numel() + m.out_proj.weight.numel() for m in attentions)
    rounded += sum(m.k_proj.weight.numel() + m.v_proj.weight.numel() for m in attentions[::2])
    rounded += sum(layer.fc1.weight.numel() + layer.fc2.weight.numel() for layer in decoder.layers)
    again = model.proj_out.weight.numel()  # in a byte each, beside the embedding
    assert needed_bytes(model, settings, torch.float16, eight_bits=True) == 2 * (weights + states) - rounded + again


GENERATION = GenerationParams(num_beams=2, max_length=4)


def test_fp8_is_refused_before_the_weights_are_read(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    params = FusedParams(tune="never")
    with pytest.raises(UserError, match=r"fp8 weights need 8\.9 .* say measure\.fused_fp8\.precision: float32"):
        Fused(params, "fused_fp8", weight_format="fp8").load(tmp_path / "nowhere", GENERATION, CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(UserError, match=r"capability 7\.0, .* say measure\.fused_int8\.precision: float32"):
        Fused(params, "fused_int8", weight_format="int8").load(tmp_path / "nowhere", GENERATION, CUDA)


def test_an_old_gpu_is_refused_before_the_weights_are_read(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    for precision in ("auto", "half"):
        engine = Fused(FusedParams(precision=precision, tune="never"))
        with pytest.raises(UserError, match="compute capability 7\\.0"):
            engine.load(tmp_path / "nowhere", GENERATION, CUDA)


@pytest.mark.parametrize("engine", ["huggingface", "fused", "fused, plain path"])
def test_a_full_gpu_is_refused_before_anything_is_on_it(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**10, 2**33))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    made: HuggingFace | Fused
    if engine == "huggingface":
        made = HuggingFace(BaselineParams())
    else:
        made = Fused(FusedParams(precision="float32" if "plain" in engine else "auto", tune="never"))
    model = tiny_whisper(0)
    before = torch.get_float32_matmul_precision()
    with pytest.raises(UserError, match=rf"^{made.name} needs at least 0 MiB of GPU memory .*, and 0 MiB of 8\.0 GiB"):
        made.use(model, GENERATION, CUDA)
    assert model.device.type == "cpu"
    assert torch.get_float32_matmul_precision() == before
