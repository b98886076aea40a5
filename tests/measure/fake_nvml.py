"""A stand-in for pynvml: one GPU whose readings a test scripts, and that knows no index, only its UUID."""

import types
from typing import Any

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class NVMLError(Exception):
    pass


def fake_nvml(**changes: Any) -> types.SimpleNamespace:
    """The functions that board.py asks. A change that is an exception is raised, a list gives its items in turn."""
    readings = {
        "power_mw": 312_490, "reasons": 0, "sm": 1980, "memory": 2619, "temperature": 51, "energy_mj": 5_000_000,
    } | changes  # fmt: skip
    opened: list[int] = []

    def give(key: str) -> Any:
        value = readings[key]
        if isinstance(value, list):
            value = value.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    def handle(uuid: str) -> str:
        if uuid != UUID:
            raise NVMLError(f"no {uuid}")
        return "handle"

    return types.SimpleNamespace(
        NVMLError=NVMLError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0, opened=opened,
        nvmlInit=lambda: opened.append(1),
        nvmlShutdown=lambda: opened.pop(),
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetPowerUsage=lambda h: give("power_mw"),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda h: give("reasons"),
        nvmlDeviceGetClockInfo=lambda h, kind: give({1: "sm", 2: "memory"}[kind]),
        nvmlDeviceGetTemperature=lambda h, sensor: give("temperature"),
        nvmlDeviceGetTotalEnergyConsumption=lambda h: give("energy_mj"),
    )  # fmt: skip


def plug_in(monkeypatch: Any, nvml: Any, uuid: str = UUID) -> None:
    """Let `import pynvml` give `nvml`, and torch name its GPU `uuid` (torch leaves out the prefix)."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    properties = types.SimpleNamespace(uuid=uuid.removeprefix("GPU-"))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
