"""What a call of an optimised model's `generate` pays for looking whether its weights have changed; one JSON a run.

    python benchmarks/look_times.py --size large-v2
    python benchmarks/look_times.py --size tiny.en --threads 2

Synthetic weights, random features, 5 beams, 50 tokens. `look_ms`: a look alone, host and device together, `sample` as
in calls that follow each other at once, `everything` as after a pause, `marks` without the weights' content. `call_ms`:
`generate` with such looks and with none, interleaved, medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params
from whole_model import WholeModel

from whisper_speedup.checkpoints import synthetic
from whisper_speedup.optimize import watch
from whisper_speedup.optimize.public import whole_model


def main() -> None:
    """Time, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2", choices=list(synthetic.SIZES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = synthetic.make(arguments.size, 0, device, dtype)
    features = torch.randn(1, model.config.num_mel_bins, 2 * model.config.max_source_positions, device=device)
    engine = WholeModel()
    engine.use(model, generation_params(5, 50, min_length=50), device)
    engine.warm_up(features)
    found = whole_model(model)
    assert found is not None
    rows = [timed_looks(found.watch, arguments.rounds), timed_calls(engine, features, found.watch, arguments.rounds)]
    size = sum(weight.nbytes for weight in model.parameters())
    path = record(
        "look", device_label(device), arguments.out, size=arguments.size, threads=torch.get_num_threads(),
        weight_bytes=size, rows=rows,
    )  # fmt: skip
    for row in rows:
        print(row)
    print(path)


def milliseconds(run: Callable[[], Any]) -> float:
    """Of one run, begun and ended with an idle device."""
    synchronize()
    begin = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - begin) * 1e3


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed_looks(eyes: watch.Watch, rounds: int) -> dict[str, Any]:
    """Medians of looks alone."""
    fingerprint = eyes.fingerprint
    assert fingerprint is not None

    def look(everything: bool) -> None:
        watch.marks(eyes.module)
        fingerprint.compare(everything)
        assert not fingerprint.differs()

    runs: dict[str, Callable[[], Any]] = {
        "marks": lambda: watch.marks(eyes.module), "sample": lambda: look(False), "everything": lambda: look(True),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3 * rounds):
        for name, run in runs.items():
            times[name].append(milliseconds(run))
    return {"what": "look_ms", **{name: statistics.median(one) for name, one in times.items()}}


def timed_calls(engine: WholeModel, features: torch.Tensor, eyes: watch.Watch, rounds: int) -> dict[str, Any]:
    """Medians of calls, interleaved."""
    pause = watch.PAUSE_S
    look = watch.Watch.look

    def call(pause_s: float, seeing: bool) -> float:
        watch.PAUSE_S = pause_s
        watch.Watch.look = look if seeing else lambda *_: False  # type: ignore[method-assign]
        return milliseconds(lambda: engine.generate(features))

    ways = {"none": (pause, False), "sample": (float("inf"), True), "everything": (-1.0, True)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(call(*way))
    finally:
        watch.PAUSE_S, watch.Watch.look = pause, look  # type: ignore[method-assign]
    return {"what": "call_ms", **{name: statistics.median(one) for name, one in times.items()}, "times": times}


if __name__ == "__main__":
    main()
