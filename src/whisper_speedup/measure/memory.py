"""Memory of this process: on the GPU as torch's allocator counts it, on the host as the kernel does."""

import resource
import sys

import torch

from whisper_speedup.measure.records import Memory


def snapshot(device: torch.device) -> Memory:
    """This process now; of the GPU nothing is known on a CPU."""
    on_gpu = device.type == "cuda"
    return Memory(
        allocated=torch.cuda.memory_allocated(device) if on_gpu else None,
        reserved=torch.cuda.memory_reserved(device) if on_gpu else None,
        max_allocated=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        max_reserved=torch.cuda.max_memory_reserved(device) if on_gpu else None, process_peak=process_peak(),
    )  # fmt: skip


def highest(snapshots: list[Memory]) -> Memory:
    """The most that any of several processes had, key by key; None where none knows."""
    known = {key: [most for one in snapshots if (most := getattr(one, key)) is not None]
             for key in snapshots[0].model_fields_set}  # fmt: skip
    return Memory(**{key: max(values, default=None) for key, values in known.items()})


def process_peak() -> int:
    """The process's largest resident memory so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux, bytes on macOS
