import json

import psutil
import pytest
import torch

from tests.measure.fake_nvml import NVMLError, fake_nvml, plug_in
from whisper_speedup.measure import sampler
from whisper_speedup.measure.records import Spread
from whisper_speedup.measure.sampler import KEYS, Sampler

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NEVER_S = 1e6  # the thread takes no sample of its own: one at the start and one at the end are left


def test_a_run_is_summarised_as_least_median_and_most(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, fake_nvml(sm=[1980, 1200, 1500, 1700], reasons=[0, 4, 4, 0x44]))
    sampled = Sampler(CUDA, NEVER_S)
    for _ in range(2):
        with sampled:
            pass
    found = sampled.summary()
    assert found.samples == 4
    assert found.sm_mhz == Spread(min=1200, median=1600, max=1980)
    assert found.throttling == {"software power cap": 3, "hardware thermal slowdown": 1}
    json.dumps(found.content(), allow_nan=False)


def test_energy_is_the_counter_s_difference_while_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, fake_nvml(energy_mj=[1000, 61_000, 500_000, 510_000]))
    sampled = Sampler(CUDA, NEVER_S)
    with sampled:
        pass
    with sampled:  # what was used between the two is nobody's
        pass
    used = sampled.used(audio_s=35.0)
    assert used is not None
    assert (used.joules, used.audio_s) == (70, 35)
    assert used.seconds > 0


def test_energy_that_is_lost_once_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, fake_nvml(energy_mj=[1000, NVMLError("gone"), 3000, 4000]))
    sampled = Sampler(CUDA, NEVER_S)
    for _ in range(2):
        with sampled:
            pass
    assert sampled.used(1.0) is None


def test_on_a_cpu_there_is_no_energy_and_no_board() -> None:
    with Sampler(CPU, NEVER_S) as sampled:
        pass
    found = sampled.summary()
    assert set(found.content()) == {"samples", "interval_s", "throttling", *KEYS}
    assert found.throttling is None
    assert found.power_w is None
    assert sampled.used(1.0) is None


def test_the_thread_samples_until_the_end_and_an_error_ends_it_too() -> None:
    sampled = Sampler(CPU, interval_s=0.001)

    def stopped() -> None:
        with sampled:
            while len(sampled.samples) < 5:  # ends because the thread goes on
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not sampled.thread.is_alive()


def test_a_run_of_hours_keeps_a_bounded_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MOST", 8)
    long = Sampler(torch.device("cpu"), interval_s=1000)
    with long:
        for _ in range(100):
            long._sample()
    assert 4 <= len(long.samples) <= 8
    assert long.summary().interval_s == long.interval_s > 16000


def test_others_are_all_that_is_not_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Over ten seconds of two cores: 12 s busy, 1 s of it stolen, 5 s of it our own and 3 s our child's.
    clock, busy, own = iter([0.0, 10.0]), iter([(100.0, 50.0), (111.0, 51.0)]), iter([7.0, 1.0, 12.0, 4.0])

    class Process:
        def cpu_times(self) -> tuple[float, float]:
            return next(own), 0.0

        def children(self, recursive: bool) -> list["Process"]:
            return [Process()]

    class Times(tuple[float, ...]):
        idle = 1000.0
        guest = 0.0

    def cpu_times() -> Times:
        user, steal = next(busy)
        return Times((user, 1000.0, steal))

    monkeypatch.setattr(sampler.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(psutil, "Process", Process)
    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    sampled = Sampler(CPU)
    sampled.board, sampled.family = None, sampler._family()
    sampled.processor = sampler._processor_s(sampled.family)
    sampled._sample()
    assert sampled.samples[0]["others_cores"] == pytest.approx((12 - 5 - 3) / 10)


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "cpu_times", refuse)
    with Sampler(CPU, NEVER_S) as sampled:
        pass
    assert sampled.summary().others_cores is None
