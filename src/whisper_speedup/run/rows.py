"""The records that decoding leaves for `compare`: results.jsonl, run.json, rounds.jsonl and rounds.json.

The manifest's row is audio/row.py's, model.json checkpoints/identity.py's, and what is measured measure/records.py's:
each below this folder, for they write it.
"""

from typing import Annotated

import numpy as np
from pydantic import Field, PlainSerializer

from whisper_speedup.disk.records import Facts, Number, Record
from whisper_speedup.measure.records import Breakdown, Energy, Floor, Memory, Reading, Sampled
from whisper_speedup.params.profile import GenerationParams, RoundsParams

WHOLE = PlainSerializer(lambda settings: settings and settings.model_dump())  # the keys left to their defaults, too
Stream = dict[str, Number]  # a batch engine's stream_summary


class Result(Record):
    """What an engine made of one utterance, or why it made nothing.

    `text` is `raw_text` after the English normalisation of transformers' tokenizer. `seconds` by the host's clock and
    `device_seconds` by the GPU's have one value a repeat.
    """

    id: str
    tokens: list[int] | None = None
    text: str | None = None
    raw_text: str | None = None
    score: float | None = None
    seconds: list[float] | None = None
    device_seconds: list[float] | None = None
    truncated: bool | None = None
    error: str | None

    @property
    def median_s(self) -> float:
        """Seconds of compute, the median over the repeats."""
        return float(np.median(self.seconds or []))

    @property
    def device_median_s(self) -> float | None:
        """The same by the GPU's own clock; None where there is none."""
        return float(np.median(self.device_seconds)) if self.device_seconds else None


class Conditions(Record):
    """The machine before the first utterance, after the last, and while they were decoded."""

    before: Reading
    after: Reading
    during: Sampled | None = None


class Session(Record):
    """An earlier process of an interrupted run; `rows`: how many of the run's rows are its."""

    rows: int | None = None
    started: str
    conditions: Reading | None = None


class Throughput(Record):
    """What the last process decoded, from the first utterance handed out to the last row. `batched`: many at once."""

    utterances: int
    audio_s: float
    seconds: float | None
    batched: bool
    workers: int


class WorkerFigures(Record):
    """One worker's part of the run; None what a lost one could not say."""

    worker: int
    device_name: str | None
    utterances: int
    audio_s: float
    busy_s: float | None
    load_s: float
    warmup_s: float
    stream: Stream | None
    memory: Memory | None
    lost: str | None


class Setup(Record):
    """How an engine runs, and on what. `prompt` has None where the language is detected."""

    settings: Facts
    prompt: list[int | None]
    device: str
    dtype: str
    threads: int
    environment: Facts


class Measured(Record):
    """What a process, or several together, measured of themselves while they decoded."""

    memory: Memory
    conditions: Conditions
    energy: Energy | None = None
    breakdown: Breakdown | None = None
    step_floor: Floor | None = None


class Hashes(Record):
    """What went in, and the rows that came out."""

    data_sha256: str
    weights_sha256: str
    model_sha256: str
    results_sha256: str = ""


class LeftOut(Hashes):
    """run.json of an engine that this machine cannot run."""

    engine: str
    profile: str
    left_out: str


class MadeWith(Setup, Hashes):
    """All that a run's rows depend on, but for the three of Asked."""

    engine: str
    features: str | None = None
    source_sha256: str | None = None


class PartialKey(MadeWith):
    """All that a run's rows depend on. `elsewhere`: the environment of an engine that decodes in another process."""

    generation: Annotated[GenerationParams, WHOLE]
    repeats: int
    warmup: int
    elsewhere: Facts | None = None


class RunRecord(MadeWith, Measured):
    """run.json."""

    model: Facts
    profile: str
    device_name: str | None
    load_s: float
    warmup_s: float
    decode_s: float
    resumed_from: list[Session] | None
    started: str
    throughput: Throughput | None = None
    workers: list[WorkerFigures] | None = None


class Variants(Record):
    """variants.json: which variants of the baseline were decoded, and why the others mean nothing here."""

    decoded: list[str]
    left_out: dict[str, str]


class Turn(Record):
    """A row of rounds.jsonl: one clip that one engine decoded in its turn; rounds count over all starts, from 1."""

    start: int
    round: int
    place: int
    engine: str
    clip: str
    seconds: float | None
    device_seconds: float | None
    tokens: int | None
    error: str | None


class Waited(Record):
    """How long a process waited for its turns, and the processor seconds that it took meanwhile."""

    seconds: float
    cpu_s: float


class TurnsRecord(Setup):
    """What an engine's processes said of themselves."""

    load_s: float
    warmup_s: float
    memory: Memory
    conditions: Sampled
    waiting: Waited


class RoundsRecord(Record):
    """rounds.json; only the first two where the profile has no rounds. `clips` are ids."""

    profile: str
    rounds: Annotated[RoundsParams | None, WHOLE]
    data_sha256: str = ""
    weights_sha256: str = ""
    clips: list[str] = Field(default_factory=list)
    started: str = ""
    seconds: float = 0.0
    engines: dict[str, TurnsRecord] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)
