"""Memory bandwidth as this machine gives it: the denominator of every floor."""

import statistics
import time

import torch


def memory_bandwidth(device: torch.device) -> float:
    """Bytes a second of the device's main memory: a copy's on a GPU, a sum's with torch's threads on a CPU.

    A quarter of a gigabyte, more than any cache holds. Half a gigabyte of the device is in use meanwhile.
    """
    return copy_bandwidth(device, 2**28) if device.type == "cuda" else read_bandwidth()


def copy_bandwidth(device: torch.device, size_bytes: int = 2**30, repeats: int = 20) -> float:
    """Bytes a second of a device-to-device copy, read and write counted; the median of `repeats` timed by events."""
    source = torch.empty(size_bytes // 4, device=device).normal_()
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return 2 * source.numel() * 4 / statistics.median(seconds)


def read_bandwidth(size_bytes: int = 2**28, repeats: int = 20) -> float:
    """Bytes a second that the host's cores read, with torch's own threads; the fastest of `repeats` sums.

    The fastest and not the median: other work on the host can only slow a sum down, and a floor must not rise with it.
    """
    values = torch.ones(size_bytes // 4)
    values.sum()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        values.sum()
        seconds.append(time.perf_counter() - begin)
    return values.numel() * 4 / min(seconds)
