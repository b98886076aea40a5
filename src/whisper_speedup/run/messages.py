"""What a worker and its driver say to each other, whatever lies between them.

A worker says Loaded, then Asks for utterances and gives Rows until it is answered with none, then Ended; or, at any
time, why it cannot: Failed, Bug or Lost.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from whisper_speedup.audio.row import Row
from whisper_speedup.disk import storage
from whisper_speedup.disk.records import Facts
from whisper_speedup.errors import EngineLost, LeftOutError, NotANumberError, UserError
from whisper_speedup.measure import device as devices
from whisper_speedup.measure.records import Reading
from whisper_speedup.run.rows import Measured, Result, Setup, Stream, Waited


@dataclass(frozen=True)
class Item:
    """An utterance to decode. `at`: its number in the manifest. `audio`: its file's content, where the one that decodes
    cannot see the file. `max_length`: as engines.protocol.Utterance has it; for batch engines alone."""

    at: int
    row: Row
    audio: bytes | None = None
    max_length: int | None = None


class Decoded(NamedTuple):
    """A result. `audio_s`: seconds of audio that have an output. `overflow`: the reason for having none, where that is
    NaN."""

    at: int
    row: Result
    audio_s: float
    overflow: NotANumberError | None = None


@dataclass(frozen=True)
class Loaded:
    """The engine is ready. `elsewhere`: the environment of one that decodes in another process. `slots`: utterances
    that it decodes at once. `source_sha256`: of our own source, by which a driver knows its workers."""

    setup: Setup
    elsewhere: Facts | None
    device_name: str | None
    slots: int
    batched: bool
    source_sha256: str
    sees_audio: bool
    load_s: float
    warmup_s: float
    conditions: Reading

    @property
    def own(self) -> Setup:
        """The same with the environment in which the engine decodes."""
        return self.setup if self.elsewhere is None else self.setup.but(environment=self.elsewhere)


@dataclass(frozen=True)
class Rows:
    """Utterances that have ended."""

    rows: list[Decoded]


@dataclass(frozen=True)
class Ended:
    """There is nothing more to do. `busy_s`: from getting chunks to their last rows."""

    measured: Measured
    waiting: Waited
    busy_s: float
    stream: Stream | None


Message = Loaded | Rows | Ended
# The next chunk of utterances. With True it is waited for, and none means that there will be no more; with False none
# means that there is none just now, and that what is in flight may end.
More = Callable[[bool], list[Item]]


@dataclass(frozen=True)
class Asks:
    """The worker wants its next chunk: `wait` as in More."""

    wait: bool


@dataclass(frozen=True)
class Failed:
    """The worker cannot go on, and no other could: `why` is a sentence. `left_out`: nobody expects the engine here.
    `full`: the GPU's memory is."""

    why: str
    left_out: bool = False
    full: bool = False


@dataclass(frozen=True)
class Bug:
    """An error of our own code: its traceback."""

    why: str


@dataclass(frozen=True)
class Lost:
    """The worker is gone, and another may take its place. `full`: as above."""

    why: str
    full: bool = False


Said = Message | Asks | Failed | Bug | Lost
LAST = (Ended, Failed, Bug, Lost)  # what a worker says last


def end_of(error: BaseException) -> Failed | Bug | Lost:
    """What a worker says of the error that ended it: a UserError holds for all workers, a failing GPU for this one."""
    if isinstance(error, UserError):
        return Failed(str(error), isinstance(error, LeftOutError), devices.full(error))
    if isinstance(error, OSError) and (sentence := storage.failure(error)):
        return Failed(sentence)
    sentence = devices.failure(error)
    return Lost(sentence, devices.full(error)) if sentence else Bug("".join(traceback.format_exception(error)))


def error_of(said: Failed | Bug | Lost, who: str) -> Exception:
    """What the driver raises of it."""
    if isinstance(said, Bug):
        return RuntimeError(f"{who} ended with\n{said.why}")
    if isinstance(said, Lost):
        return EngineLost(f"{who} is lost: {said.why}")
    return LeftOutError(said.why) if said.left_out else UserError(said.why)
