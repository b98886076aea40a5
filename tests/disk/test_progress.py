"""A bar in a terminal, plain lines in a log: how many there are, and what they say."""

import io
import os
import sys
import termios

import pytest

from whisper_speedup.disk import progress
from whisper_speedup.disk.progress import Progress, duration, size, track


class Clock:
    """The time, as the test has it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_a_line_each_tenth_with_what_is_left(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(200), "decoding with fused", "utterance"):
        clock.now += 1
    told = lines(capfd)
    assert len(told) == 10
    assert told[0] == "decoding with fused: 20 of 200 utterances, 20 s so far, about 3 min 0 s left"
    assert told[-1] == "decoding with fused: 200 of 200 utterances, 3 min 20 s"


def test_fast_work_says_one_line(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(1000), "decoding audio", "clip"):
        clock.now += 0.004
    assert lines(capfd) == ["decoding audio: 1000 of 1000 clips, 4.0 s"]


def test_at_most_a_line_in_five_seconds(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(100), "decoding audio", "clip"):
        clock.now += 0.2  # a tenth takes 2 s
    assert len(lines(capfd)) == 4


def test_slow_work_says_a_line_a_minute(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for number, _ in enumerate(track(range(2620), "decoding with huggingface", "utterance")):
        clock.now += 20
        if number == 8:
            break
    assert lines(capfd) == [
        "decoding with huggingface: 3 of 2620 utterances, 1 min 0 s so far, about 14 h 32 min left",
        "decoding with huggingface: 6 of 2620 utterances, 2 min 0 s so far, about 14 h 31 min left",
    ]


def test_what_was_there_before_does_not_make_it_look_faster(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(10), "decoding with fused", "utterance", done=90):
        clock.now += 60
    told = lines(capfd)
    assert told[0] == "decoding with fused: 91 of 100 utterances, 1 min 0 s so far, about 9 min 0 s left"
    assert told[-1] == "decoding with fused: 100 of 100 utterances, 10 min 0 s"


def test_bytes_that_have_to_be_fetched_again(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("fetching x/y", 4_000_000, "B") as bar:
        for count in (1_000_000, -1_000_000, 2_000_000, 2_000_000):
            clock.now += 10
            bar.advance(count)
    assert lines(capfd) == [
        "fetching x/y: 1.0 MB of 4.0 MB, 10 s so far, about 30 s left",
        "fetching x/y: 2.0 MB of 4.0 MB, 30 s so far, about 30 s left",
        "fetching x/y: 4.0 MB of 4.0 MB, 40 s",
    ]


def test_what_is_found_later_does_not_make_it_look_faster_either(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress("fetching x/y", 4_000_000, "B") as bar:
        bar.found(2_000_000)
        clock.now += 10
        bar.advance(1_000_000)
    assert lines(capfd) == ["fetching x/y: 3.0 MB of 4.0 MB, 10 s so far, about 10 s left"]


def test_nothing_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "decoding audio", "clip")) == []
    assert lines(capfd) == []


def test_a_bar_in_a_terminal_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in track(range(3), "decoding audio", "clip", done=1):
        pass
    told = terminal.getvalue()
    assert "decoding audio: 100%" in told
    assert "4/4" in told
    assert "4 of 4 clips" not in told


def until_closed(master: int) -> str:
    """All that was written to a terminal whose other side is closed; one read may bring only a part of it."""
    told = b""
    try:
        while part := os.read(master, 65536):
            told += part
    except OSError:  # EIO: read to the end, as Linux says it
        pass
    return told.decode()


@pytest.mark.parametrize(("columns", "bar"), [(100, True), (0, False)])
def test_a_real_terminal_and_one_without_a_width(monkeypatch: pytest.MonkeyPatch, columns: int, bar: bool) -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (30, columns))
    with open(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert list(track([1, 2], "decoding audio", "clip")) == [1, 2]
    told = until_closed(master)
    os.close(master)
    assert ("decoding audio: 100%" in told) == bar
    assert ("decoding audio: 2 of 2 clips" in told) != bar


def test_a_bar_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("fetching x/y", 6_000_000_000, "B") as bar:
        bar.advance(6_000_000_000)
    assert "6.00G/6.00G" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)  # fmt: skip
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_951, "1.0 MB"), (6.17e9, "6.2 GB"),
     (2.5e13, "25000.0 GB")],
)  # fmt: skip
def test_size(count: float, words: str) -> None:
    assert size(count) == words
