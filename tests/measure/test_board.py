import pytest
import torch

from tests.measure.fake_nvml import NVMLError, fake_nvml, plug_in
from whisper_speedup.measure import conditions
from whisper_speedup.measure.board import UNKNOWN, board

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_reading_has_units_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml(reasons=0x1 | 0x4 | 0x40)  # 0x1 is an idle GPU, which is no throttling
    plug_in(monkeypatch, nvml)
    with board(CUDA) as found:
        assert found is not None
        assert found.read() == {
            "sm_mhz": 1980, "memory_mhz": 2619, "power_w": 312.5, "temperature_c": 51,
            "throttling": ["software power cap", "hardware thermal slowdown"],
        }  # fmt: skip
        assert found.energy_j() == 5000
        assert nvml.opened
    assert not nvml.opened


def test_what_one_driver_does_not_tell_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = NVMLError("Not Supported")
    plug_in(monkeypatch, fake_nvml(power_mw=refusal, reasons=refusal, energy_mj=refusal))
    with board(CUDA) as found:
        assert found is not None
        assert found.read() == {**UNKNOWN, "sm_mhz": 1980, "memory_mhz": 2619, "temperature_c": 51}
        assert found.energy_j() is None


def test_it_is_the_gpu_that_torch_uses_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml()
    plug_in(monkeypatch, nvml, uuid="GPU-of-another-kind")
    with board(CUDA) as found:
        assert found is None
    assert not nvml.opened
    assert {key: conditions.read(CUDA).content()[key] for key in UNKNOWN} == UNKNOWN


def test_no_nvml_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)  # an import error
    with board(CUDA) as found:
        assert found is None
    with board(CPU) as found:
        assert found is None
