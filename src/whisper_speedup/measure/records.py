"""What is measured of a machine and of a process, as run.json and rounds.json have it. None: it is not known."""

from whisper_speedup.disk.records import Number, Record


class Memory(Record):
    """Bytes. `reserved` is what torch took from the driver; the CUDA context, about half a gigabyte, is in neither.

    The four of the GPU are torch's allocator's, the maxima since the process began. An engine that decodes in another
    process may tell the last three, which then are believed.
    """

    allocated: int | None = None
    reserved: int | None = None
    max_allocated: int | None = None
    max_reserved: int | None = None
    process_peak: int | None = None
    weights: int | None = None
    caches: int | None = None
    activations: int | None = None


class Reading(Record):
    """The machine at one moment: the processor's clock (a mean over its cores), the load of the last minute, this
    process counted, and of the GPU's board MHz, watts, degrees Celsius and the names of throttle reasons."""

    cpu_mhz: Number | None = None
    load_1min: Number | None = None
    sm_mhz: Number | None = None
    memory_mhz: Number | None = None
    power_w: Number | None = None
    temperature_c: Number | None = None
    throttling: list[str] | None = None


class Spread(Record):
    """Of the samples that know the value."""

    min: Number
    median: Number
    max: Number


class Sampled(Record):
    """Samples `interval_s` apart; `throttling`: how many of them saw each reason."""

    samples: int
    interval_s: float
    sm_mhz: Spread | None
    memory_mhz: Spread | None
    power_w: Spread | None
    temperature_c: Spread | None
    cpu_mhz: Spread | None
    others_cores: Spread | None
    throttling: dict[str, int] | None


class Energy(Record):
    """The board's `joules` over `seconds` in which `audio_s` of audio were decoded."""

    joules: float
    seconds: float
    audio_s: float


class Breakdown(Record):
    """Seconds of each part over `utterances`; `step_s`: of one step; `host_s`: the search and the host's work."""

    encoder_s: float
    prefill_s: float
    steps_s: float
    host_s: float
    step_s: float | None = None
    utterances: int


class Floor(Record):
    """The bytes that a decode step must read, this machine's bandwidth, and the seconds that follow."""

    bytes: int
    bandwidth_bytes_s: float
    seconds: float
