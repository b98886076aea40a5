import json
import types

import pytest
import torch

from whisper_speedup.measure import clock, conditions, environment, memory

CPU = torch.device("cpu")


def test_the_clock_waits_for_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock.synchronize(CPU)
    assert waited == []
    clock.synchronize(torch.device("cuda"))
    assert waited == [torch.device("cuda")]


def test_memory_on_a_cpu_is_the_process_only() -> None:
    found = memory.snapshot(CPU).content()
    peak = found.pop("process_peak")
    assert found == {"allocated": None, "reserved": None, "max_allocated": None, "max_reserved": None}
    assert peak is not None
    assert peak > 50e6  # bytes: a process with torch in it


@pytest.mark.parametrize(("platform", "factor"), [("linux", 1024), ("darwin", 1)])
def test_the_process_peak_is_in_bytes(monkeypatch: pytest.MonkeyPatch, platform: str, factor: int) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("resource.getrusage", lambda who: types.SimpleNamespace(ru_maxrss=7))
    assert memory.process_peak() == 7 * factor


def test_conditions_of_a_cpu_are_json_with_every_key() -> None:
    found = conditions.read(CPU).content()
    assert set(found) == {
        "cpu_mhz", "load_1min", "sm_mhz", "memory_mhz", "power_w", "temperature_c", "throttling",
    }  # fmt: skip
    assert found["load_1min"] >= 0
    assert found["sm_mhz"] is None
    json.dumps(found, allow_nan=False)


def test_conditions_without_a_cpu_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_freq", lambda: None)
    assert conditions.read(CPU).cpu_mhz is None


def test_the_fingerprint_is_sorted_json_and_the_same_again() -> None:
    first = json.dumps(environment.fingerprint(), allow_nan=False)
    environment.fingerprint.cache_clear()
    assert json.dumps(environment.fingerprint(), allow_nan=False) == first
    found = environment.fingerprint()
    assert list(found) == sorted(found)
    assert found["torch"] == torch.__version__
    assert found["cpu"]


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package-at-all"))
    environment.fingerprint.cache_clear()
    try:
        assert environment.fingerprint()["no-such-package-at-all"] is None
    finally:
        environment.fingerprint.cache_clear()


def test_another_gpu_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = types.SimpleNamespace(name="NVIDIA X", major=9, minor=0, total_memory=1, multi_processor_count=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    environment.fingerprint.cache_clear()
    try:
        assert environment.fingerprint()["gpus"] == [
            {"name": "NVIDIA X", "compute_capability": "9.0", "memory_bytes": 1, "multiprocessors": 2}
        ]
    finally:
        environment.fingerprint.cache_clear()
