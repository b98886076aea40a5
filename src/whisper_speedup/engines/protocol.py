"""What every engine does: load once, warm up once, then decode one utterance at a time, or many at once."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from whisper_speedup.errors import UserError
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.params.profile import GenerationParams


@dataclass(frozen=True)
class Generation:
    """One utterance's hypothesis.

    `tokens`: generated ids, prompt and end-of-text left out. `score`: the beam's length-normalised log-probability,
    None where the engine does not give one. `truncated`: stopped by max_length and not by end-of-text. `seconds`: the
    timed region as the engine itself measured it, where it decodes in another process and the way there is no part of
    that region; None leaves the timing to the caller.
    `encoder_states`: the encoder's output, from an engine that cannot tell by itself whether it holds numbers; the
    benchmark looks once the clock has stopped.
    """

    tokens: list[int]
    score: float | None
    truncated: bool
    seconds: float | None = None
    encoder_states: torch.Tensor | None = field(default=None, compare=False, repr=False)


class Engine(Protocol):
    """A way of decoding. Its class has `Params`, a pydantic model of its settings that forbids other keys and has
    defaults, and is made with one; the entry-point group `whisper_speedup.engines` names it.

    run.json records `settings`, `dtype` (known once loaded) and `prompt` (ids; None where the language is detected).
    """

    name: str
    settings: dict[str, Any]
    prompt: list[int | None]
    dtype: str

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Read the Hugging Face folder. Raises UserError with one sentence when the engine cannot run here."""

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode `features` (1, mels, 3000) once, the longest way there is, so that the first timed call is hot."""

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode log-mel features (1, mels, 3000), float32, already on the engine's device.

        Raises ClipError for what is this clip's own fault, NaN in the model's output above all.
        """

    def close(self) -> None:
        """Give the memory back."""


@dataclass(frozen=True)
class Utterance:
    """One utterance that waits to be decoded.

    `index`: the caller's own number for it, which comes back with its result. `features`: called once, perhaps in
    another thread, gives log-mel features (1, mels, 3000), float32, on the host or on the engine's device; a UserError
    that it raises is this utterance's result. `duration_s`: of the audio, where that is known: among the utterances
    that an engine holds, the longest starts first. `max_length`: at most so many tokens, where that is fewer than
    generation.max_length; it does not hold for an utterance of several windows.
    """

    index: int
    features: Callable[[], torch.Tensor]
    duration_s: float | None = None
    max_length: int | None = None


Outcome = Generation | UserError  # one utterance's result, or why there is none


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that decodes many utterances at once. Its `generate` is a batch of one."""

    def decode_stream(self, utterances: Iterable[Utterance]) -> Generator[tuple[int, Outcome]]:
        """Decode all of `utterances`, yielding (index, result) in the order in which they end.

        Pulls `utterances` lazily, in a thread of its own: as many as the engine has slots, and a bounded number that
        wait, are held at any time, however many there are. A Generation's `seconds` are those from the utterance's
        entering a slot to its end, which others share. An utterance's own fault is its result (ClipError for NaN, or
        what `features` raised), and the others go on; EngineLost, and whatever iterating `utterances` raises, end the
        stream. Closing the iterator early drops what is in flight, and the engine can be used again.
        """

    def stream_summary(self) -> dict[str, float]:
        """Of the last stream that was read to its end: `seconds` from its first pull to its last result, `utterances`,
        `encoder_s` and `decoder_s` (of the device's time, where it has a clock; else the host's), `steps`, `slots`."""


@runtime_checkable
class Watched(Engine, Protocol):
    """An engine that can tell where an utterance's time goes."""

    def watch(self, stopwatch: Stopwatch | None) -> None:
        """Time the parts of what is decoded from now on; None ends that."""


@runtime_checkable
class Elsewhere(Protocol):
    """An engine that decodes in another process, with packages and memory of its own."""

    def process(self) -> dict[str, Any]:
        """What that process says of itself, in place of run.json's own keys: `memory` and `environment`."""
