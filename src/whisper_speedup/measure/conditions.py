"""The state the machine was in while it measured: clocks, power, temperature, throttling, load.

Two runs of one machine are comparable only when these are alike; `compare` warns when they are not.
"""

from typing import Any

import psutil
import torch

THROTTLE_REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def read(device: torch.device) -> dict[str, Any]:
    """A reading now. Values that this machine does not tell are None; GPU values are None on a CPU."""
    return {**_host(), **_gpu(device)}


def _host() -> dict[str, Any]:
    frequency = psutil.cpu_freq()
    return {
        "cpu_mhz": round(frequency.current) if frequency else None,
        "load_1min": round(psutil.getloadavg()[0], 2),
    }


def _gpu(device: torch.device) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "sm_mhz": None, "memory_mhz": None, "power_w": None, "temperature_c": None, "throttling": None,
    }  # fmt: skip
    if device.type != "cuda":
        return nothing
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no nvidia-ml-py, or a driver that does not talk to it
        return nothing
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return {
            "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "power_w": round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1),
            "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "throttling": [name for bit, name in THROTTLE_REASONS.items() if reasons & bit],
        }
    except nvml.NVMLError:
        return nothing
    finally:
        nvml.nvmlShutdown()
