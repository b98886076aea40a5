"""What the GPU's board tells of itself through NVML: clocks, power, temperature, throttle reasons, energy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from whisper_speedup.disk.records import Facts

THROTTLE_REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
UNKNOWN: Facts = {
    "sm_mhz": None, "memory_mhz": None, "power_w": None, "temperature_c": None, "throttling": None,
}  # fmt: skip


class Board:
    """One GPU, NVML being open. What a driver does not tell is None, each value by itself."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    def read(self) -> Facts:
        """UNKNOWN's keys, as they are now: MHz, watts (of the whole board), degrees Celsius, names of reasons."""
        nvml, handle = self.nvml, self.handle
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return {
            "sm_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            "memory_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            "power_w": None if power_mw is None else round(power_mw / 1000, 1),
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            "throttling": None
            if reasons is None
            else [name for bit, name in THROTTLE_REASONS.items() if reasons & bit],
        }

    def energy_j(self) -> float | None:
        """Joules that the whole board has taken since its driver was loaded (Volta and newer)."""
        millijoules = self._ask(self.nvml.nvmlDeviceGetTotalEnergyConsumption, self.handle)
        return None if millijoules is None else millijoules / 1000

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(*arguments)
        except self.nvml.NVMLError:
            return None


@contextmanager
def board(device: torch.device) -> Iterator[Board | None]:
    """`device`'s board while inside; None on a CPU, without nvidia-ml-py, and where NVML does not know the GPU.

    It is found by its UUID: NVML counts every GPU of the machine, torch those that CUDA_VISIBLE_DEVICES leaves.
    """
    opened = _open(device) if device.type == "cuda" else None
    try:
        yield opened
    finally:
        if opened is not None:
            opened.nvml.nvmlShutdown()


def _open(device: torch.device) -> Board | None:
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no nvidia-ml-py, or a driver that does not talk to it
        return None
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return Board(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"))
    except nvml.NVMLError:
        nvml.nvmlShutdown()
        return None
