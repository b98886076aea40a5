"""Memory bandwidth as this GPU gives it: the denominator of every floor."""

import statistics

import torch


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
