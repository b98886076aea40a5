"""What a worker is told before it starts: all of it can be sent to another process or machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from whisper_speedup.engines.protocol import Engine
from whisper_speedup.params.profile import MeasureParams, Profile
from whisper_speedup.run.decoding import FeaturesOf
from whisper_speedup.run.messages import Item


class Source(Protocol):
    """Where a worker's features come from."""

    def open(self, model_dir: Path, device: torch.device) -> FeaturesOf:
        """A function from an item to its features on `device`."""

    def visible(self) -> bool:
        """Whether this worker sees the audio files; if not, items bring them along."""


class Weights(Protocol):
    """Where a worker's weights are."""

    def folder(self) -> Path:
        """The checked Hugging Face folder, as seen by the worker. Raises UserError."""


@dataclass(frozen=True)
class Job:
    """`create` makes the engine called `engine`. `warmup`: the clips to warm up with, and those whose parts are timed
    afterwards when `extras` asks for that. `threads`: of torch on the host; None leaves them as they are. `rests`:
    others take turns with this worker, which decodes a chunk one by one and leaves the machine to them until the next.
    """

    profile: Profile
    engine: str
    create: Callable[[str, MeasureParams], Engine]
    weights: Weights
    source: Source
    warmup: list[Item] = field(default_factory=list)
    threads: int | None = None
    extras: bool = True
    rests: bool = False
