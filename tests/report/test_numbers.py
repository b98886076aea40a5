import pytest

from whisper_speedup.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"), (0.00042, "0.42 ms"), (0.0123, "12.3 ms"), (0.812, "812 ms"), (0.9994, "999 ms"),
        (0.9996, "1.00 s"), (9.994, "9.99 s"), (9.996, "10.0 s"), (99.94, "99.9 s"), (99.96, "1.67 min"),
        (39.8 * 60, "39.8 min"), (2 * 3600, "2.00 h"),
    ],
)  # fmt: skip
def test_seconds(value, text):
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\N{EN DASH}"), (12, "12 B"), (1536, "1.50 KiB"), (700 * 2**20, "700 MiB"), (13.6 * 2**30, "13.6 GiB")],
)
def test_size(value, text):
    assert numbers.size(value) == text


def test_ratios_and_shares():
    assert numbers.times(2.8149) == "2.81\N{MULTIPLICATION SIGN}"
    assert numbers.times(1234.5) == "1,234\N{MULTIPLICATION SIGN}"
    assert numbers.interval(2.6, 2.999) == "2.60 to 3.00"
    assert numbers.interval(None, None) == "\N{EN DASH}"
    assert numbers.percent(37 / 2620) == "1.41%"
    assert numbers.count(2620) == "2,620"
    assert numbers.plural(1, "word") == "1 word"
    assert numbers.plural(2620, "word") == "2,620 words"


def test_points_have_a_sign_unless_they_round_to_nothing():
    assert numbers.points(0.0012) == "+0.12 points"
    assert numbers.points(-0.0012) == "\N{MINUS SIGN}0.12 points"
    assert numbers.points(-0.000001) == numbers.points(0.000001) == numbers.points(0) == "0.00 points"
