import types
from typing import Any

import pytest
import torch

from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import NotANumberError
from whisper_speedup.measure import clock
from whisper_speedup.run import timed as module
from whisper_speedup.run.timed import timed

FEATURES = torch.zeros(1, 8, 40)


def engine(log: list[str], **fields: Any) -> Any:
    def generate(features: torch.Tensor) -> Generation:
        log.append("generate")
        return Generation(tokens=[1], score=None, truncated=False, **fields)

    return types.SimpleNamespace(name="fused", settings={"precision": "half"}, generate=generate)


def test_both_clocks_stand_around_generate_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Clock:
        def __init__(self, device: torch.device) -> None:
            log.append("made")

        def start(self) -> None:
            log.append("start")

        def stop(self) -> None:
            log.append("stop")

        def seconds(self) -> float:
            log.append("read")
            return 0.25

    monkeypatch.setattr(module, "DeviceClock", Clock)
    monkeypatch.setattr(module, "synchronize", lambda device: log.append("wait"))
    found = timed(engine(log), FEATURES)
    assert log == ["made", "wait", "start", "generate", "stop", "wait", "read"]
    assert found.device_seconds == 0.25
    assert found.seconds > 0


def test_an_engine_elsewhere_is_believed_and_our_device_s_clock_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.DeviceClock, "seconds", lambda self: 0.25)
    found = timed(engine([], seconds=7.0), FEATURES)
    assert (found.seconds, found.device_seconds) == (7.0, None)


def test_not_a_number_is_said_once_the_clock_has_stopped() -> None:
    with pytest.raises(NotANumberError, match=r"measure\.fused\.precision"):
        timed(engine([], encoder_states=torch.tensor([float("nan")])), FEATURES)


def test_on_a_cpu_there_is_one_clock() -> None:
    assert timed(engine([]), FEATURES).device_seconds is None


def test_events_are_recorded_on_the_current_stream_and_read_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            log.append(stream)

        def elapsed_time(self, end: "Event") -> float:
            assert end is not self
            return 1234.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "current")
    both = clock.DeviceClock(torch.device("cuda"))
    both.start()
    both.stop()
    assert both.seconds() == pytest.approx(1.2345)
    assert log == ["current", "current"]
