"""The stopwatch's sums, with a clock of our own."""

import pytest
import torch

from whisper_speedup.measure import parts
from whisper_speedup.measure.parts import Stopwatch, unwatched

CPU = torch.device("cpu")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(parts.time, "perf_counter", lambda: times.pop(0))
    return times


def test_parts_add_up_and_the_rest_is_the_hosts(ticks: list[float]) -> None:
    stopwatch = Stopwatch(CPU)
    ticks += [0, 2, 2, 2.5, 3, 4, 6, 8]
    for name in ("encoder", "prefill", "steps", "steps"):
        with stopwatch.part(name):
            pass
    found = stopwatch.breakdown(8.0, 2)
    assert found == {"encoder_s": 2, "prefill_s": 0.5, "steps_s": 3, "host_s": 2.5, "step_s": 1.5, "utterances": 2}


def test_a_part_that_goes_on_counts_once(ticks: list[float]) -> None:
    stopwatch = Stopwatch(CPU)
    ticks += [0, 1, 2, 4]
    stopwatch.begin()
    stopwatch.end("steps")
    stopwatch.begin()
    stopwatch.end("steps", entries=0)
    assert stopwatch.breakdown(3.0, 1)["step_s"] == 3


def test_the_device_is_done_before_either_end_s_time_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(parts, "synchronize", lambda device: log.append(device.type))
    monkeypatch.setattr(parts.time, "perf_counter", lambda: float(log.append("clock") or len(log)))
    stopwatch = Stopwatch(CPU)
    with stopwatch.part("encoder"):
        log.append("work")
    assert log == ["cpu", "clock", "work", "cpu", "clock"]


def test_without_a_step_there_is_no_time_of_one() -> None:
    assert "step_s" not in Stopwatch(CPU).breakdown(1.0, 1)


def test_unwatched_does_nothing(ticks: list[float]) -> None:
    with unwatched("steps"):
        pass
