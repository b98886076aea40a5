"""Steps started one ahead of a done flag that the device writes: the host never waits for the step it has started.

While it waits for the one before, it sleeps: an event that is waited for the ordinary way keeps a core busy. A sleep
still costs a quarter of a millisecond of CPU (an H100's host), so a step had better be several of the decoder's.
"""

from collections.abc import Callable, Sequence

import torch


def run_ahead(
    steps: Sequence[Callable[[], None]],
    done: torch.Tensor,
    device: torch.device,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Call one after the other until `done` (1,), which a step writes, is not 0, then `finish`; returns when all that
    they started has ended.

    On a GPU `done` is pinned host memory and a step is only started by its call. The flag is read one step behind, so
    that one step too many may run: a step after the search is over must change nothing.
    """
    if device.type != "cuda":
        for step in steps:
            if int(done):
                break
            step()
        finish()
        return
    flag = done.numpy()
    before, current = torch.cuda.Event(blocking=True), torch.cuda.Event(blocking=True)
    for number, step in enumerate(steps):
        step()
        current.record()
        if 0 < number < len(steps) - 1:
            before.synchronize()
            if flag[0]:
                break
        before, current = current, before
    finish()
    current.record()
    current.synchronize()
