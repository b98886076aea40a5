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


def test_a_column_has_one_unit_and_as_many_decimals_for_all():
    assert numbers.seconds_column([7.469, 2.6]) == numbers.Column("s", ["7.47", "2.60"])
    assert numbers.seconds_column([0.5376, 0.19, None]) == numbers.Column("ms", ["538", "190", "\N{EN DASH}"])
    assert numbers.seconds_column([804.0, 0.44]) == numbers.Column("s", ["804.00", "0.44"])
    assert numbers.seconds_column([1.66, 0.0568]) == numbers.Column("s", ["1.660", "0.057"])
    assert numbers.seconds_column([39.8 * 60, 17.1 * 60]) == numbers.Column("min", ["39.8", "17.1"])
    assert numbers.seconds_column([9000.0, 5997.0]).unit == "h"
    assert numbers.seconds_column([0.0044, 0.0245]) == numbers.Column("ms", ["4.4", "24.5"])
    assert numbers.size_column([979 * 2**20, 990 * 2**20]) == numbers.Column("MiB", ["979", "990"])
    assert numbers.size_column([13.6 * 2**30, 0.7 * 2**30]) == numbers.Column("GiB", ["13.60", "0.70"])
    assert numbers.number_column([17.0, 5.92]) == numbers.Column("", ["17.0", "5.9"])


def test_a_column_of_nothing_and_of_zeros():
    assert numbers.seconds_column([None, None]).cells == ["\N{EN DASH}"] * 2
    assert numbers.seconds_column([0.0, None]).cells == ["0", "\N{EN DASH}"]
    assert numbers.number_column([]).cells == []


def test_a_column_keeps_signs_and_never_shows_minus_nothing():
    assert numbers.seconds_column([-0.25, 1.0]).cells == ["\N{MINUS SIGN}0.25", "1.00"]
    assert numbers.number_column([-0.0001, 5.0], decimals=2).cells == ["0.00", "5.00"]


def test_bytes_to_be_moved_scores_and_large_numbers():
    assert numbers.megabytes(65613312) == "65.6 MB"
    assert numbers.megabytes(1853562880) == "1.85 GB"
    assert numbers.gigabytes_a_second(3.012e12) == "3,012 GB/s"
    assert numbers.score(-0.221049) == "\N{MINUS SIGN}0.22105"
    assert numbers.millions(37760256) == "37.8 million"
    assert numbers.millions(1543304960) == "1.54 billion"
