from collections.abc import Callable

import numpy as np
import pytest

from whisper_speedup.audio.decode import Waveform
from whisper_speedup.audio.variations import add_noise, change_speed, vary
from whisper_speedup.params.sources import Variations

Tone = Callable[..., np.ndarray]
STRESS = Variations(noise_snr_db=[20, 10, 0], speeds=[0.9, 1.1], seed=0)


def test_names_and_order(tone: Tone) -> None:
    names = [name for name, _ in vary("a", Waveform(tone(1), None), STRESS)]
    assert names == ["a", "a+noise20db", "a+noise10db", "a+noise0db", "a+speed0.9", "a+speed1.1"]
    assert [name for name, _ in vary("a", Waveform(tone(1), None), None)] == ["a"]


@pytest.mark.parametrize("snr_db", [20, 3.5, 0, -10])
def test_noise_has_the_power_it_should(tone: Tone, snr_db: float) -> None:
    clean = tone(5)
    noise = add_noise(clean, snr_db, "a", 0) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.1)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02  # white: each sample is independent of the one before


def test_noise_depends_on_seed_clip_and_snr_alone(tone: Tone) -> None:
    clean = tone(1)
    assert np.array_equal(add_noise(clean, 10, "a", 0), add_noise(clean.copy(), 10, "a", 0))
    assert not np.array_equal(add_noise(clean, 10, "a", 0), add_noise(clean, 10, "b", 0))
    assert not np.array_equal(add_noise(clean, 10, "a", 0), add_noise(clean, 10, "a", 1))
    alike = np.corrcoef(add_noise(clean, 10, "a", 0) - clean, add_noise(clean, 0, "a", 0) - clean)[0, 1]
    assert abs(alike) < 0.05


def test_silence_stays_silence() -> None:
    assert not add_noise(np.zeros(100, dtype=np.float32), 0, "a", 0).any()


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1, 2.0])
def test_a_faster_tape_is_shorter_and_higher(tone: Tone, speed: float) -> None:
    varied = change_speed(Waveform(tone(2), None), speed)
    assert varied.duration_s == pytest.approx(2 / speed, abs=1e-3)
    assert varied.samples[2000:8000] == pytest.approx(tone(2, hertz=440 * speed)[2000:8000], abs=0.01)
    assert varied.cut_from_s is None


def test_slower_than_30_s_is_cut_again(tone: Tone) -> None:
    varied = change_speed(Waveform(tone(28), None), 0.9)
    assert len(varied.samples) == 480_000
    assert varied.cut_from_s == pytest.approx(28 / 0.9, abs=1e-3)


@pytest.mark.parametrize(("speed", "seconds"), [(0.8, 30), (1.25, 24)])
def test_what_was_cut_stays_marked(tone: Tone, speed: float, seconds: float) -> None:
    varied = change_speed(Waveform(tone(30), 36.0), speed)
    assert varied.duration_s == pytest.approx(seconds, abs=1e-3)
    assert varied.cut_from_s == pytest.approx(36 / speed)
    noisy = dict(vary("a", Waveform(tone(30), 36.0), STRESS))["a+noise10db"]
    assert noisy.cut_from_s == 36.0
