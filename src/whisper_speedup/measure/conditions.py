"""The state that the machine is in at one moment: clocks, power, temperature, throttling, load.

Two runs of one machine are comparable only when these are alike; `compare` warns when they are not. sampler.py follows
them through a run.
"""

import psutil
import torch

from whisper_speedup.disk.records import Facts
from whisper_speedup.measure.board import UNKNOWN, Board, board
from whisper_speedup.measure.records import Reading


def read(device: torch.device) -> Reading:
    """A reading now. Values that this machine does not tell are None; GPU values are None on a CPU."""
    with board(device) as found:
        return Reading.model_validate({**host(), **gpu(found)})


def host() -> Facts:
    """The processor's clock (a mean over its cores) and the load of the last minute, this process counted."""
    frequency = psutil.cpu_freq()
    return {
        "cpu_mhz": round(frequency.current) if frequency else None,
        "load_1min": round(psutil.getloadavg()[0], 2),
    }


def gpu(found: Board | None) -> Facts:
    """The board's reading; all None without one."""
    return dict(UNKNOWN) if found is None else found.read()
