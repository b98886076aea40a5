"""Wait for the device, so that the host's clock means something."""

import torch


def synchronize(device: torch.device) -> None:
    """Return when the device has finished all work given to it so far; at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
