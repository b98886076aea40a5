"""The machine's state followed through a run: a thread that reads clocks, power, heat and load while an engine works.

It reads four times a second, for one engine as for another, and more seldom in runs of hours. Without a GPU a reading
costs 0.1 ms of processor time.
"""

import threading
import time
from collections import Counter
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
import torch

from whisper_speedup.measure import conditions
from whisper_speedup.measure.board import board
from whisper_speedup.measure.records import Energy, Sampled, Spread

INTERVAL_S = 0.25
MOST = 16384  # samples that are kept: over an hour of them, and from then on every second one, twice as far apart
KEYS = ("sm_mhz", "memory_mhz", "power_w", "temperature_c", "cpu_mhz", "others_cores")
_SHORTEST_S = 0.1  # the kernel counts processor time in hundredths of a second


class Sampler:
    """Samples while inside; may be entered again, and then goes on with the same record.

    `others_cores` is how many cores worked on what is neither this process nor its children, a guest's stolen time
    counted. Energy is the whole board's, while inside, summed over the times it was entered.
    """

    def __init__(self, device: torch.device, interval_s: float = INTERVAL_S) -> None:
        self.device, self.interval_s = device, interval_s
        self.samples: list[dict[str, Any]] = []
        self.joules: float | None = 0.0 if device.type == "cuda" else None
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self.open = ExitStack()
        self.board = self.open.enter_context(board(self.device))
        self.stop = threading.Event()
        self.family = _family()
        self.processor = _processor_s(self.family)
        self.began, self.energy = time.perf_counter(), self._energy()
        self._sample()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        energy = self._energy()
        self.seconds += time.perf_counter() - self.began
        self.stop.set()
        self.thread.join()
        self._sample()
        if self.joules is not None and energy is not None and self.energy is not None:
            self.joules += energy - self.energy
        else:
            self.joules = None
        self.open.close()

    def summary(self) -> Sampled:
        """For run.json."""
        reasons = [sample["throttling"] for sample in self.samples if sample["throttling"] is not None]
        seen = Counter(reason for sample in reasons for reason in sample)
        return Sampled(
            samples=len(self.samples),
            interval_s=self.interval_s,
            **{key: _spread([sample[key] for sample in self.samples]) for key in KEYS},
            throttling=dict(sorted(seen.items())) if reasons else None,
        )

    def used(self, audio_s: float) -> Energy | None:
        """For run.json, `audio_s` of audio having been decoded inside; None where the board does not count energy."""
        return None if self.joules is None else Energy(joules=self.joules, seconds=self.seconds, audio_s=audio_s)

    def _follow(self) -> None:
        while not self.stop.wait(self.interval_s):
            self._sample()

    def _sample(self) -> None:
        gpu = conditions.gpu(self.board)
        sample = {**gpu, "cpu_mhz": conditions.host()["cpu_mhz"], "others_cores": None}
        now, before = _processor_s(self.family), self.processor
        if now is not None and before is not None and now[0] - before[0] >= _SHORTEST_S:
            sample["others_cores"] = max(0.0, round((now[1] - before[1]) / (now[0] - before[0]), 2))
            self.processor = now
        self.samples.append(sample)
        if len(self.samples) >= MOST:
            self.samples, self.interval_s = self.samples[::2], 2 * self.interval_s

    def _energy(self) -> float | None:
        return None if self.board is None else self.board.energy_j()


def _family() -> list[psutil.Process]:
    """This process and its children now. Looked for once, for that reads every process of the machine."""
    me = psutil.Process()
    try:
        return [me, *me.children(recursive=True)]
    except (psutil.Error, OSError):
        return [me]


def _processor_s(family: list[psutil.Process]) -> tuple[float, float] | None:
    """Now, and the seconds that the cores have spent on others' work so far. None where the system does not tell."""
    try:
        own = sum(sum(process.cpu_times()[:2]) for process in family)
        whole = psutil.cpu_times()
    except (psutil.Error, OSError):
        return None
    idle = whole.idle + getattr(whole, "iowait", 0.0)
    # `guest` time is counted in `user` as well.
    busy = sum(whole) - idle - getattr(whole, "guest", 0.0) - getattr(whole, "guest_nice", 0.0)
    return time.perf_counter(), busy - own


def _spread(values: list[Any]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(min=min(known), median=float(np.median(known)), max=max(known))
