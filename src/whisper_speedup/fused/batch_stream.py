"""Continuous batching: utterances wait, enter a slot when one is free, and leave it when their search ends.

The loop knows nothing of how slots decode: batch_device.py's do it with kernels, batch_plain.py's in plain torch.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

import torch

from whisper_speedup.errors import EngineLost, NotANumberError, UserError
from whisper_speedup.fused.batch_prefetch import Waiting
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.segments import STRIDE, split_at_timestamps
from whisper_speedup.fused.settings import DecodingSettings


@dataclass(frozen=True)
class Ended:
    """A slot whose utterance has ended: its hypothesis, with a score that is not a number where the logits were not."""

    slot: int
    hypothesis: Hypothesis


@dataclass
class StreamTimes:
    """Of a stream: seconds in the encoder, cross-attention's keys and values included, and in the decoder; steps."""

    encoder_s: float = 0.0
    decoder_s: float = 0.0
    steps: int = 0

    def add(self, part: str, seconds: float) -> None:
        """`part`: encoder or decoder."""
        if part == "encoder":
            self.encoder_s += seconds
        else:
            self.decoder_s += seconds


class Slots(Protocol):
    """`count` utterances that are decoded at once, after `use`, and `encode_count` that are encoded together. The first
    `deciding` that wait decide both."""

    deciding: int
    count: int
    encode_count: int
    settings: DecodingSettings
    times: StreamTimes

    def use(self, utterances: int) -> None:
        """Begin a stream of so many utterances, or more; all slots are free."""

    def encode(self, features: list[torch.Tensor]) -> list[Any]:
        """Encode up to `encode_count` utterances (1, mels, frames); each is given to `start` before the next call."""

    def start(self, slot: int, encoded: Any, max_length: int | None) -> None:
        """Put an utterance into a free slot, to decode at most `max_length` tokens, where that is less than usual."""

    def step(self) -> None:
        """Start a step of all slots that hold an utterance."""

    def ended(self) -> list[Ended]:
        """The utterances that have ended since the last call; the newest may be told at the next one only."""

    def single(self, features: torch.Tensor) -> Hypothesis:
        """Decode one utterance by itself, whatever its windows. Raises ClipError."""


@dataclass(frozen=True)
class Job:
    """An utterance with its features (1, mels, n), or with why it has none; `max_length` as start() takes it."""

    index: int
    features: torch.Tensor | UserError
    max_length: int | None = None


def run_stream(
    slots: Slots, waiting: Waiting[Job], frames: int, setting: str, half: bool
) -> Iterator[tuple[int, Hypothesis | UserError, float]]:
    """Decode all that is `waiting`; yields index, outcome and seconds in a slot, in the order in which utterances end.

    `frames`: of the encoder's window. `setting`, `half`: NotANumberError's.
    """
    slots.use(waiting.at_least(slots.deciding))
    free = list(range(slots.count))
    heapify(free)
    in_flight: dict[int, tuple[Job, float]] = {}
    encoded: deque[tuple[Job, Any]] = deque()
    while True:
        if free and not encoded:
            ready = waiting.take(slots.encode_count, wait=not in_flight)
            sound: list[tuple[Job, torch.Tensor]] = []
            for job in ready:
                if isinstance(job.features, UserError):
                    yield job.index, job.features, 0.0
                elif job.features.shape[-1] > frames:
                    begin = time.perf_counter()
                    yield job.index, alone(slots, job, setting, half), time.perf_counter() - begin
                else:
                    sound.append((job, job.features))
            if sound:
                handles = slots.encode([_window(features, frames) for _, features in sound])
                encoded.extend(zip((job for job, _ in sound), handles, strict=True))
            elif not ready and not in_flight:
                return
        while free and encoded:
            job, handle = encoded.popleft()
            slot = heappop(free)
            slots.start(slot, handle, job.max_length)
            in_flight[slot] = job, time.perf_counter()
        if not in_flight:
            continue
        slots.step()
        for end in slots.ended():
            heappush(free, end.slot)
            job, begin = in_flight.pop(end.slot)
            outcome = judged(slots, job, end.hypothesis, frames, setting, half)
            yield job.index, outcome, time.perf_counter() - begin


def judged(slots: Slots, job: Job, best: Hypothesis, frames: int, setting: str, half: bool) -> Hypothesis | UserError:
    """The utterance's outcome: an error where its score is no number; decoded alone where a second window follows."""
    assert isinstance(job.features, torch.Tensor)
    if not best.score > -1.0e8:
        return NotANumberError(setting, half)
    held = job.features.shape[-1]
    kept, offset = split_at_timestamps(best.tokens, slots.settings.timestamp_begin, STRIDE, held)
    if offset < held:
        return alone(slots, job, setting, half)
    return Hypothesis(kept, best.score, best.ended)


def alone(slots: Slots, job: Job, setting: str, half: bool) -> Hypothesis | UserError:
    """Decode one utterance by itself; its own fault is its outcome, and names the setting of this engine."""
    assert isinstance(job.features, torch.Tensor)
    try:
        return slots.single(job.features)
    except EngineLost:
        raise
    except NotANumberError:
        return NotANumberError(setting, half)
    except UserError as error:
        return error


def limit_of(settings: DecodingSettings, prompt_length: int, max_length: int | None) -> int:
    """The longest sequence, prompt included, of an utterance that is to have at most `max_length` tokens."""
    longest = settings.max_total(0)
    return longest if max_length is None else min(longest, prompt_length + max_length)


def _window(features: torch.Tensor, frames: int) -> torch.Tensor:
    """Features (1, mels, frames), padded with zeros as decode_windows does."""
    return torch.nn.functional.pad(features, (0, frames - features.shape[-1]))
