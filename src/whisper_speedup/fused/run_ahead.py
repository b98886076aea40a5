"""Steps started one ahead of a done flag that the device writes: the host never waits for the step it has started.

While it waits for the one before, it sleeps: waiting for an event the ordinary way keeps a core busy, and the driver's
own sleeping wait costs a quarter of a millisecond of CPU each time (measured on an H100's host).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

LOOKS = 4  # at an event, in the time that a step takes


def run_ahead(
    steps: Sequence[Callable[[], None]],
    done: torch.Tensor,
    device: torch.device,
    finish: Callable[[], None] = lambda: None,
    pause_s: float = 0.0,
) -> float:
    """Call one after the other until `done` (1,), which a step writes, is not 0, then `finish`; returns when all that
    they started has ended.

    On a GPU `done` is pinned host memory and a step is only started by its call. The flag is read one step behind, so
    that one step too many may run: a step after the search is over must change nothing. `pause_s`: how long to sleep
    between two looks at an event, as the call before returned it; 0 where there was none.
    """
    if device.type != "cuda":
        for step in steps:
            if int(done):
                break
            step()
        finish()
        return pause_s
    before, current = torch.cuda.Event(blocking=True), torch.cuda.Event(blocking=True)
    ended = None
    for number, step in enumerate(steps):
        step()
        current.record()
        if 0 < number < len(steps) - 1:
            wait(before, pause_s)
            now = time.perf_counter()
            if ended is not None:  # from one end to the next is a step
                pause_s = (now - ended) / LOOKS
            ended = now
            if done[0]:
                break
        before, current = current, before
    finish()
    current.record()
    current.synchronize()
    return pause_s


def wait(event: Any, pause_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for an event with sleeps of `pause_s`, or as the driver does where that is 0."""
    if pause_s <= 0:
        event.synchronize()
        return
    while not event.query():
        sleep(pause_s)
