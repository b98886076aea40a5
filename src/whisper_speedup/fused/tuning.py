"""Which launch configuration makes a whole decode step fastest: coordinate descent, each candidate timed as a graph.

A kernel that is fastest alone need not be so among its neighbours, so the step itself is timed, on the engine's own
packed weights. It happens while an engine loads, never in a timed region or a capture, and once for a GPU and a model
width: the choice is kept (launch_cache.py) and read from then on, for another one rounds differently.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from whisper_speedup.errors import say
from whisper_speedup.fused import launch_cache
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_decoder import DeviceDecoder
from whisper_speedup.fused.device_weights import DeviceWeights
from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.fused.settings import DecodingSettings

BUDGET_S = 30.0
GAIN = 0.997  # less of an improvement is noise
# Changes to try, one after the other, each kept if it helps: the products that read most come first.
CANDIDATES: list[dict[str, Any]] = [
    {"fc2": Tile(32, 128, 4, 4), "fc2_splits": 4},
    {"fc1": Tile(32, 128, 2, 5)},
    {"qkv": Tile(16, 256, 2, 4)},
    {"pdl": True},
    {"vocabulary": Tile(256, 64, 4, 3)},
    {"out": Tile(8, 256, 1, 5)},
    {"query": Tile(16, 256, 2, 5)},
    {"fc2": Tile(64, 128, 4, 4), "fc2_splits": 8},
    {"cross_warps": 4},
    {"cross_shares": 12},
    {"cross_shares": 4},
    {"qkv": Tile(32, 128, 2, 3)},
    {"fc1": Tile(16, 256, 2, 4)},
    {"out": Tile(16, 128, 2, 6)},
    {"query": Tile(16, 128, 2, 6)},
    {"update_warps": 8},
    {"self_warps": 2},
    {"vocabulary": Tile(128, 128, 4, 3)},
    {"fc2": Tile(16, 256, 2, 4), "fc2_splits": 2},
    {"qkv": Tile(32, 128, 4, 6)},
    {"fc1": Tile(32, 256, 4, 4)},
    {"out": Tile(16, 256, 2, 4)},
    {"query": Tile(8, 256, 2, 4)},
    {"fc2": Tile(32, 256, 4, 3), "fc2_splits": 4},
    {"qkv": Tile(16, 128, 2, 6)},
    {"fc1": Tile(64, 128, 4, 4)},
    {"out": Tile(16, 128, 2, 4), "out_splits": 2},
    {"out": Tile(32, 128, 4, 4), "out_splits": 4},
    {"query": Tile(8, 128, 1, 6)},
    {"fc2": Tile(16, 128, 2, 6), "fc2_splits": 2},
    {"vocabulary": Tile(256, 64, 8, 3)},
    {"update_warps": 16},
    {"self_warps": 1},
]
Timer = Callable[[LaunchConfig], float]


@dataclass(frozen=True)
class Tuned:
    """`config` and its `step_ms`, the start's `start_ms` timed beside it at the end, and a row for each candidate."""

    config: LaunchConfig
    step_ms: float
    start_ms: float
    rows: list[dict[str, Any]]


def tune(
    start: LaunchConfig,
    time_step: Timer,
    budget_s: float = BUDGET_S,
    candidates: Sequence[dict[str, Any]] = CANDIDATES,
    clock: Callable[[], float] = time.monotonic,
    settle: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Tuned:
    """Try `candidates` on top of `start` until none is left or `budget_s` is over, and return the best.

    `time_step` gives milliseconds of a step. A candidate that it cannot run is left out; `settle` then raises if the
    device itself has failed, and so ends the search. The start, timed again at the end, wins where nothing beats it.
    """
    deadline = clock() + budget_s
    time_step(start)  # brings the clocks up
    best, best_ms = start, time_step(start)
    rows: list[dict[str, Any]] = [{"change": {}, "step_ms": best_ms, "kept": True}]
    say(f"start {best_ms:.4f} ms")
    for change in candidates:
        if clock() > deadline:
            say("out of time")
            break
        config = replace(best, **change)
        if config == best:
            continue
        try:
            milliseconds = time_step(config)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a tile that needs more shared memory than there is, or that Triton refuses
            settle()
            say(f"{change}: {type(error).__name__}")
            rows.append({"change": _plain(change), "step_ms": None, "kept": False})
            continue
        kept = milliseconds < GAIN * best_ms
        rows.append({"change": _plain(change), "step_ms": milliseconds, "kept": kept})
        say(f"{milliseconds:.4f} ms {'kept' if kept else '    '} {change}")
        if kept:
            best, best_ms = config, milliseconds
    # Clocks drift by more than one candidate gains, so the two that count are timed next to each other.
    start_ms = time_step(start)
    step_ms = start_ms if best == start else time_step(best)
    if step_ms > start_ms:
        best, step_ms = start, start_ms
    return Tuned(best, step_ms, start_ms, rows)


def tuned_launch_config(
    gpu: str, weights: DeviceWeights, settings: DecodingSettings, source_positions: int
) -> LaunchConfig:
    """Tune for this GPU and these weights' width, keep the result in the user's cache and return it. Takes BUDGET_S."""
    width = weights.embedding.shape[1]
    say(
        f"tuning the fused kernels for {gpu} at width {width}, once, for about {BUDGET_S:.0f} s"
        " (measure.fused.tune: never leaves it out)"
    )
    device = weights.embedding.device
    dependent_launch = torch.cuda.get_device_capability(device)[0] >= 9
    candidates = [change for change in CANDIDATES if dependent_launch or "pdl" not in change]
    tuned = tune(
        LaunchConfig(), StepTimer(weights, settings, source_positions), BUDGET_S, candidates,
        settle=lambda: torch.cuda.synchronize(device),
    )  # fmt: skip
    torch.cuda.empty_cache()
    kept = launch_cache.write(gpu, width, plain_config(tuned.config))
    tried = len(tuned.rows) - 1
    place = f", kept in {launch_cache.path_of(gpu)}" if kept else ""
    say(f"tuned with {tried} candidates: a step in {tuned.start_ms:.3f} ms before, {tuned.step_ms:.3f} now{place}")
    return replace(tuned.config, source="user cache" if kept else "this run")


def plain_config(config: LaunchConfig) -> dict[str, Any]:
    """What the files hold of a configuration: all but where it came from."""
    return {key: value for key, value in config.as_dict().items() if key != "source"}


class StepTimer:
    """Milliseconds of one decode step with a launch configuration: the median of 5 rounds of graph replays.

    Over weights that are packed already, with buffers of its own for each configuration; end-of-text is forbidden.
    """

    def __init__(self, weights: DeviceWeights, settings: DecodingSettings, source_positions: int) -> None:
        self.weights, self.settings, self.source_positions = weights, settings, source_positions
        self.prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=weights.embedding.device)

    @torch.inference_mode()
    def __call__(self, launch: LaunchConfig) -> float:
        """Raises what Triton raises for a configuration that it cannot compile or launch."""
        settings, prompt_length = self.settings, len(self.settings.prompt)
        limit = settings.max_total(0)
        decoder = DeviceDecoder(self.weights, settings, self.source_positions, limit, launch)
        decoder.cross.normal_()

        def start() -> None:
            decoder.prompt(self.prompt, limit, settings.max_positions)

        def step() -> None:
            decoder.step(prompt_length, limit, settings.max_positions)

        start()
        graph = capture(self.prompt.device, {"step": step})["step"]
        replays = max(1, min(45, limit - prompt_length - 1))  # a step after the last one does less
        samples = []
        for _ in range(5):
            start()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(replays):
                graph.replay()
            end.record()
            end.synchronize()
            samples.append(begin.elapsed_time(end) / replays)
        return statistics.median(samples)


def _plain(change: dict[str, Any]) -> dict[str, Any]:
    return {key: asdict(value) if isinstance(value, Tile) else value for key, value in change.items()}
