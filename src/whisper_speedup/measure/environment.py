"""What timings depend on, as a fingerprint: same machine and software, same bytes.

Nothing that changes from run to run is in it (clocks, temperatures, dates, host names): that is conditions.py's.
"""

import functools
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("numpy", "torch", "transformers", "triton")


@functools.cache
def fingerprint() -> dict[str, Any]:
    """CPU model and cores, GPUs, driver, CUDA, Python, and the packages that do the arithmetic. Sorted by key."""
    facts: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "gpus": _gpus(),
        **{package: _version(package) for package in PACKAGES},
    }
    return dict(sorted(facts.items()))


def cpu_model() -> str:
    """The processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "name": properties.name,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "memory_bytes": properties.total_memory,
                "multiprocessors": properties.multi_processor_count,
            }
        )
    return gpus


def _driver() -> str | None:
    """The NVIDIA driver's version, None where there is none."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # nvidia-ml-py is optional, and its errors are many: no version is the answer to all of them
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
