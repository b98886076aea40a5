"""What one worker does, wherever it runs: load, warm up, decode what it is handed, say what it has measured.

Everything about the machine is in its messages, for the driver may sit on another.
"""

import math
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from pathlib import Path

import torch
from pydantic_core import to_jsonable_python
from transformers import WhisperTokenizer

from whisper_speedup.disk.files import read_json
from whisper_speedup.engines.protocol import BatchEngine, Elsewhere, Engine, Watched
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.measure import conditions, memory
from whisper_speedup.measure import device as devices
from whisper_speedup.measure.bandwidth import memory_bandwidth
from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.measure.floor import step_bytes
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.measure.records import Breakdown, Floor, Memory
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.run.decoding import FeaturesOf, one, streamed, warm_up
from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import Decoded, Ended, Item, Loaded, Message, More, Rows
from whisper_speedup.run.rows import Conditions, Measured, Setup, Waited
from whisper_speedup.run.source import package_sha256
from whisper_speedup.run.timed import timed

BREAKDOWN = 8  # utterances whose parts are timed
GATHERED_S = 0.2  # a batch engine's rows are written together, for it stands still meanwhile


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
    cpu = str(fingerprint().get("cpu"))
    yield Loaded(
        Setup(
            settings=to_jsonable_python(engine.settings), prompt=engine.prompt, device=device.type, dtype=engine.dtype,
            threads=torch.get_num_threads(), environment=fingerprint(),
        ),
        elsewhere=engine.process()["environment"] if isinstance(engine, Elsewhere) else None,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        slots=int(engine.settings.get("slots", 1)),
        batched=isinstance(engine, BatchEngine),
        source_sha256=package_sha256(),
        sees_audio=job.source.visible(),
        load_s=load_s,
        warmup_s=warmup_s,
        conditions=before,
    )  # fmt: skip
    audio_s, busy_s, waited_s, waited_cpu_s, stream = 0.0, 0.0, 0.0, 0.0, Counter[str]()
    many = isinstance(engine, BatchEngine) and not job.rests
    sampler = Sampler(device)
    throughout: AbstractContextManager[object]
    meanwhile: AbstractContextManager[object]
    throughout, meanwhile = (nullcontext(), sampler) if job.rests else (sampler, nullcontext())
    with throughout:
        while True:
            began, began_cpu = time.perf_counter(), time.process_time()
            if not (chunk := more(True)):
                break
            begin = last = time.perf_counter()
            waited_s, waited_cpu_s = waited_s + begin - began, waited_cpu_s + time.process_time() - began_cpu
            seconds = math.inf if job.rests else GATHERED_S if many else 0.0
            with meanwhile, closing(_decoded(job, engine, chunk, more, features_of, tokenizer)) as rows:
                for gathered in _gathered(rows, seconds):
                    last = time.perf_counter()
                    audio_s += sum(one.audio_s for one in gathered)
                    yield Rows(gathered)
            busy_s += last - begin
            if isinstance(engine, BatchEngine) and many:
                stream.update(engine.stream_summary())
    measured = Measured(
        memory=memory.snapshot(device),
        conditions=Conditions(before=before, after=conditions.read(device), during=sampler.summary()),
        energy=sampler.used((1 if many else measure.repeats) * audio_s),
    )
    if job.extras and isinstance(engine, Watched):
        measured = measured.but(breakdown=_breakdown(engine, job.warmup, features_of, device))
    if isinstance(engine, Elsewhere):
        measured = measured.but(memory=Memory.model_validate(engine.process()["memory"]))
    engine.close()
    if job.extras:
        measured = measured.but(step_floor=_floor(model_dir, device))  # last: its buffers are no engine's memory
    yield Ended(measured, Waited(seconds=waited_s, cpu_s=waited_cpu_s), busy_s, dict(stream) or None)


def _decoded(
    job: Job, engine: Engine, chunk: list[Item], more: More, features_of: FeaturesOf, tokenizer: WhisperTokenizer
) -> Generator[Decoded]:
    """This chunk, and what is there when it is at its end; a job that rests does so then."""
    if isinstance(engine, BatchEngine) and not job.rests:
        yield from streamed(engine, _with_more(chunk, more), features_of, tokenizer)
        return
    for item in chunk if job.rests else _with_more(chunk, more):
        yield one(engine, item, features_of, tokenizer, job.profile.measure.repeats)


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


def _breakdown(engine: Watched, items: list[Item], features_of: FeaturesOf, device: torch.device) -> Breakdown | None:
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


def _floor(model_dir: Path, device: torch.device) -> Floor:
    size, bandwidth = step_bytes(read_json(model_dir / "config.json")), memory_bandwidth(device)
    return Floor(bytes=size, bandwidth_bytes_s=bandwidth, seconds=size / bandwidth)
