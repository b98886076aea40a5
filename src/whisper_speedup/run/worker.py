"""What one worker does, wherever it runs: load, warm up, decode what it is handed, say what it has measured.

It speaks in three kinds of messages: Loaded once, Rows as utterances end, Ended once. Everything about the machine
is in them, for the driver may sit on another.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from transformers import WhisperTokenizer

from whisper_speedup.disk.files import read_json
from whisper_speedup.engines.protocol import BatchEngine, Elsewhere, Watched
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.measure import conditions, memory
from whisper_speedup.measure import device as devices
from whisper_speedup.measure.bandwidth import memory_bandwidth
from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.measure.floor import step_bytes
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.run.decoding import Decoded, FeaturesOf, Item, decoded, warm_up
from whisper_speedup.run.job import Job
from whisper_speedup.run.source import package_sha256
from whisper_speedup.run.timed import timed

BREAKDOWN = 8  # utterances whose parts are timed
GATHERED_S = 0.2  # a batch engine's rows are written together, for it stands still meanwhile


@dataclass(frozen=True)
class Loaded:
    """The engine is ready. `about`: how it runs and what it runs on."""

    about: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Utterances that have ended."""

    rows: list[Decoded]


@dataclass(frozen=True)
class Ended:
    """There is nothing more to do. `about`: what was measured."""

    about: dict[str, Any]


Message = Loaded | Rows | Ended
# The next chunk of utterances. With True it is waited for, and none means that there will be no more; with False none
# means that there is none just now, and that what is in flight may end.
More = Callable[[bool], list[Item]]


def work(job: Job, more: More) -> Generator[Message]:
    """Decode until `more` has nothing, waited for. A batch engine calls it in a thread of its own. Raises UserError."""
    measure = job.profile.measure
    device = devices.resolve(measure.device)
    threads = measure.threads if measure.threads is not None else job.threads
    if threads is not None:
        torch.set_num_threads(threads)
    engine = job.create(job.engine, measure)
    model_dir = job.weights.folder()
    features_of = job.source.open(model_dir, device)
    tokenizer = WhisperTokenizer.from_pretrained(model_dir)
    begin = time.perf_counter()
    engine.load(model_dir, job.profile.generation, device)
    synchronize(device)
    load_s = time.perf_counter() - begin
    begin = time.perf_counter()
    warm_up(engine, job.warmup, features_of, measure.warmup)
    synchronize(device)
    warmup_s = time.perf_counter() - begin
    before = conditions.read(device)
    yield Loaded({
        "settings": engine.settings,
        "prompt": engine.prompt,
        "device": device.type,
        "dtype": engine.dtype,
        "threads": torch.get_num_threads(),
        "environment": fingerprint(),
        "elsewhere": engine.process()["environment"] if isinstance(engine, Elsewhere) else None,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else fingerprint().get("cpu"),
        "slots": int(engine.settings.get("slots", 1)),
        "batched": isinstance(engine, BatchEngine),
        "source_sha256": package_sha256(),
        "sees_audio": job.source.visible(),
        "load_s": load_s,
        "warmup_s": warmup_s,
        "conditions": before,
    })  # fmt: skip
    audio_s, busy_s, stream = 0.0, 0.0, Counter[str]()
    with Sampler(device) as sampler:
        while chunk := more(True):
            begin = last = time.perf_counter()
            rows = decoded(engine, _with_more(chunk, more), features_of, tokenizer, measure.repeats)
            with closing(cast("Any", rows)):
                for gathered in _gathered(rows, GATHERED_S if isinstance(engine, BatchEngine) else 0.0):
                    last = time.perf_counter()
                    audio_s += sum(one.audio_s for one in gathered)
                    yield Rows(gathered)
            busy_s += last - begin
            if isinstance(engine, BatchEngine):
                stream.update(engine.stream_summary())
    about: dict[str, Any] = {
        "memory": memory.snapshot(device),
        "conditions": {"before": before, "after": conditions.read(device), "during": sampler.summary()},
        "energy": sampler.used((1 if isinstance(engine, BatchEngine) else measure.repeats) * audio_s),
        "busy_s": busy_s,
        "stream": dict(stream) if stream else None,
    }
    if job.extras and isinstance(engine, Watched):
        about["breakdown"] = _breakdown(engine, job.warmup, features_of, device)
    if isinstance(engine, Elsewhere):
        about |= engine.process()
    engine.close()
    if job.extras:
        about["step_floor"] = _step_floor(model_dir, device)  # last: its buffers are no engine's memory
    yield Ended(about)


def _with_more(chunk: list[Item], more: More) -> Iterator[Item]:
    """The utterances of this chunk and of those that are there when it is at its end."""
    while chunk:
        yield from chunk
        chunk = more(False)


def _gathered(rows: Iterable[Decoded], seconds: float) -> Iterator[list[Decoded]]:
    """The rows in groups: each by itself, or those of so many seconds together."""
    waiting: list[Decoded] = []
    since = time.perf_counter()
    for row in rows:
        waiting.append(row)
        if time.perf_counter() - since >= seconds:
            yield waiting
            waiting, since = [], time.perf_counter()
    if waiting:
        yield waiting


def _breakdown(
    engine: Any, items: list[Item], features_of: FeaturesOf, device: torch.device
) -> dict[str, float] | None:
    """Where the time of a few utterances goes, decoded once more behind the timed run; None when none can be."""
    stopwatch = Stopwatch(device)
    few = list(islice(items, BREAKDOWN))
    engine.watch(stopwatch)
    try:
        whole_s = sum(timed(engine, features_of(item)).seconds for item in few)
    except EngineLost:
        raise
    except UserError:
        return None  # its row says why; a share of the parts without their whole would say nothing
    finally:
        engine.watch(None)
    return stopwatch.breakdown(whole_s, len(few))


def _step_floor(model_dir: Any, device: torch.device) -> dict[str, float]:
    """The bytes that a decode step must read, this machine's bandwidth, and the seconds that follow."""
    size, bandwidth = step_bytes(read_json(model_dir / "config.json")), memory_bandwidth(device)
    return {"bytes": size, "bandwidth_bytes_s": bandwidth, "seconds": size / bandwidth}
