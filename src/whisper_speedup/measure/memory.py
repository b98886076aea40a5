"""Memory of this process: on the GPU as torch's allocator counts it, on the host as the kernel does."""

import resource
import sys

import torch


def snapshot(device: torch.device) -> dict[str, int | None]:
    """Bytes: allocated, reserved and their maxima since the process began (None on a CPU), and the process's peak.

    `reserved` is what torch took from the driver; the CUDA context, about half a gigabyte, is in neither.
    """
    gpu: dict[str, int | None] = {"allocated": None, "reserved": None, "max_allocated": None, "max_reserved": None}
    if device.type == "cuda":
        gpu = {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "max_allocated": torch.cuda.max_memory_allocated(device),
            "max_reserved": torch.cuda.max_memory_reserved(device),
        }
    return {**gpu, "process_peak": process_peak()}


def highest(snapshots: list[dict[str, int | None]]) -> dict[str, int | None]:
    """The most that any of several processes had, key by key; None where none knows."""
    return {
        key: max((most for one in snapshots if (most := one[key]) is not None), default=None) for key in snapshots[0]
    }


def process_peak() -> int:
    """The process's largest resident memory so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux, bytes on macOS
