"""Steps started one ahead of a done flag that the device writes: the host never waits for the step it has started.

While it waits for the one before, it sleeps: an event that is waited for the ordinary way keeps a core busy.
"""

from collections.abc import Callable, Iterable

import torch


def run_ahead(steps: Iterable[Callable[[], None]], done: torch.Tensor, device: torch.device) -> None:
    """Call one after the other until `done` (1,), which a step writes, is not 0; returns when the last has ended.

    On a GPU `done` is pinned host memory and a step is only started by its call. The flag is read one step behind, so
    that one step too many may run: a step after the search is over must change nothing.
    """
    if device.type != "cuda":
        for step in steps:
            if int(done):
                return
            step()
        return
    before, current = torch.cuda.Event(blocking=True), torch.cuda.Event(blocking=True)
    before.record()
    for step in steps:
        step()
        current.record()
        before.synchronize()
        if done[0]:
            break
        before, current = current, before
    current.record()
    current.synchronize()
