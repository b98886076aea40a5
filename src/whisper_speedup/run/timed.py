"""The timed region, the notebook's: features are on the device, `generate` runs, ids come out, the device is done."""

import time
from dataclasses import replace
from typing import NamedTuple

import torch

from whisper_speedup.engines.protocol import Engine, Generation
from whisper_speedup.errors import NotANumberError
from whisper_speedup.measure.clock import DeviceClock, synchronize
from whisper_speedup.params.profile import BASELINE


class Timed(NamedTuple):
    """`seconds` by the host's clock; `device_seconds` of the same region by the GPU's, None where there is none."""

    seconds: float
    device_seconds: float | None
    generation: Generation


def timed(engine: Engine, features: torch.Tensor) -> Timed:
    """Decode one utterance under the clock. Raises NotANumberError once the clock has stopped."""
    device_clock = DeviceClock(features.device)
    synchronize(features.device)
    begin = time.perf_counter()
    device_clock.start()
    generation = engine.generate(features)
    device_clock.stop()
    synchronize(features.device)
    elapsed = time.perf_counter() - begin
    device_seconds = device_clock.seconds()
    if generation.seconds is not None:  # another process's: its device may have worked where our clock cannot see
        elapsed, device_seconds = generation.seconds, None
    states = generation.encoder_states
    if states is not None and not bool(states.isfinite().all()):
        section = "baseline" if engine.name == BASELINE else engine.name
        half = engine.settings.get("precision") != "float32"
        raise NotANumberError(f"measure.{section}.precision", half)
    return Timed(elapsed, device_seconds, replace(generation, encoder_states=None))
