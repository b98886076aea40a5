"""Two clocks for one region: the host's means something only when the device is done; the device has its own."""

import torch


def synchronize(device: torch.device) -> None:
    """Return when the device has finished all work given to it so far; at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DeviceClock:
    """Two CUDA events on the current stream around a region: its length by the GPU's clock, waiting included.

    Not how long the GPU was busy: a check on the host's clock, which it should equal but for the call that starts and
    the one that ends. On a CPU it does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.events: list[torch.cuda.Event] = []
        if device.type == "cuda":
            self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self.stream = torch.cuda.current_stream(device)

    def start(self) -> None:
        """The region begins."""
        if self.events:
            self.events[0].record(self.stream)

    def stop(self) -> None:
        """The region ends."""
        if self.events:
            self.events[1].record(self.stream)

    def seconds(self) -> float | None:
        """Once the device is synchronised; None on a CPU."""
        return float(self.events[0].elapsed_time(self.events[1])) / 1e3 if self.events else None
