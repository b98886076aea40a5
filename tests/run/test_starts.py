"""Several starts of one engine told as one."""

from whisper_speedup.measure.records import Memory, Sampled, Spread
from whisper_speedup.run.rows import TurnsRecord, Waited
from whisper_speedup.run.starts import together


def told(
    most: int | None, medians: tuple[float, float, float], reasons: dict[str, int] | None, s: float
) -> TurnsRecord:
    low, median, high = medians
    sampled = dict.fromkeys(("sm_mhz", "memory_mhz", "power_w", "temperature_c", "cpu_mhz"))
    spread = Spread(min=low, median=median, max=high)
    return TurnsRecord(
        settings={"precision": "half"}, prompt=[], device="cpu", dtype="float16", threads=1, environment={}, load_s=s,
        warmup_s=2 * s, memory=Memory(max_reserved=most, process_peak=7), waiting=Waited(seconds=s, cpu_s=0.5),
        conditions=Sampled(samples=5, interval_s=0.25, **sampled, others_cores=spread, throttling=reasons),
    )  # fmt: skip


def test_one_start_is_told_as_it_is() -> None:
    one = told(3, (0.0, 0.1, 0.7), {"heat": 2}, 4.0)
    assert together([one]) == one


def test_several_are_told_as_one() -> None:
    found = together([
        told(3, (0.1, 0.2, 0.7), None, 4.0), told(9, (0.0, 0.4, 0.5), {"heat": 2}, 1.0),
        told(None, (0.2, 0.3, 0.9), {"power": 1, "heat": 1}, 1.5),
    ])  # fmt: skip
    assert found.memory == Memory(max_reserved=9, process_peak=7)
    assert found.conditions.samples == 15
    assert found.conditions.others_cores == Spread(min=0.0, median=0.3, max=0.9)
    assert found.conditions.sm_mhz is None
    assert found.conditions.throttling == {"heat": 3, "power": 1}
    assert found.waiting == Waited(seconds=6.5, cpu_s=1.5)
    assert (found.load_s, found.warmup_s) == (4.0, 8.0)  # the first alone may compile


def test_what_no_start_knows_stays_unknown() -> None:
    found = together([told(None, (0.0, 0.0, 0.0), None, 1.0)] * 2)
    assert found.memory.max_reserved is None
    assert found.conditions.throttling is None
