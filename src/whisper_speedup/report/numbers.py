"""One way to write each kind of number, with its unit. What is missing is a dash."""

from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
_SECONDS = (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0))
_BYTES = (("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30))


@dataclass(frozen=True)
class Column:
    """Numbers that stand under each other: one unit for all, as many decimals for all, so that they can be compared."""

    unit: str
    cells: list[str]


def seconds(value: float | None) -> str:
    """Three significant digits in the unit that suits: 812 ms, 12.3 s, 39.8 min, 2.10 h."""
    if value is None:
        return MISSING
    if value < 0.9995:
        return f"{_three(value * 1000)} ms"
    if value < 99.95:
        return f"{_three(value)} s"
    if value < 5997:
        return f"{_three(value / 60)} min"
    return f"{_three(value / 3600)} h"


def size(value: float | None) -> str:
    """Bytes in binary units, three significant digits: 716 MiB, 3.10 GiB."""
    if value is None:
        return MISSING
    for unit in ("B", "KiB", "MiB"):
        if value < 999.5:
            return f"{_three(value) if unit != 'B' else int(value)} {unit}"
        value /= 1024
    return f"{_three(value)} GiB"


def megabytes(value: float) -> str:
    """Bytes to be moved, in decimal units as bandwidth is: 65.6 MB, 1.85 GB."""
    return f"{_three(value / 1e6)} MB" if value < 999.5e6 else f"{_three(value / 1e9)} GB"


def gigabytes_a_second(value: float) -> str:
    """A bandwidth: 29.4 GB/s, 3,012 GB/s."""
    return f"{_three(value / 1e9)} GB/s"


def times(value: float | None) -> str:
    """A ratio with the sign of multiplication after it: 2.81x."""
    return MISSING if value is None else f"{_ratio(value)}{TIMES}"


def factor(value: float | None) -> str:
    """A ratio without a sign, for a sentence: 2.81."""
    return MISSING if value is None else _ratio(value)


def interval(low: float | None, high: float | None) -> str:
    """The two ends of an interval of ratios: 2.64 to 2.99."""
    return MISSING if low is None or high is None else f"{_ratio(low)} to {_ratio(high)}"


def ratio(value: float | None) -> str:
    """A plain number of three significant digits."""
    return MISSING if value is None else _three(value)


def percent(value: float | None) -> str:
    """A share with two decimals: 1.41%."""
    return MISSING if value is None else f"{100 * value:.2f}%"


def points(value: float | None) -> str:
    """A difference of two percentages, signed: +0.12 points. What rounds to nothing carries no sign."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.2f}"
    return (text[1:] if float(text) == 0 else text.replace("-", MINUS)) + " points"


def score(value: float) -> str:
    """A log-probability: -0.22105."""
    return _fixed(value, 5)


def count(value: int | None) -> str:
    """A whole number with commas at the thousands: 2,620."""
    return MISSING if value is None else f"{value:,}"


def millions(value: int) -> str:
    """A large number in words: 37.8 million, 1.54 billion."""
    return f"{_three(value / 1e6)} million" if value < 999.5e6 else f"{_three(value / 1e9)} billion"


def plural(value: int, one: str, many: str | None = None) -> str:
    """1 utterance, 2 utterances, 2,620 utterances."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 99.995 else f"{value:,.0f}"


def _three(value: float) -> str:
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def seconds_column(values: Sequence[float | None]) -> Column:
    """Times in the largest unit that suits the greatest and still shows the least."""
    return _column(values, _SECONDS, (0.9995, 99.95, 5997.0), 3)


def seconds_unit(greatest: float) -> tuple[str, float]:
    """The unit for times up to `greatest`, and its seconds."""
    return _SECONDS[sum(greatest >= limit for limit in (0.9995, 99.95, 5997.0))]


def size_column(values: Sequence[float | None]) -> Column:
    """Bytes in binary units."""
    return _column(values, _BYTES, (999.5 * 2.0**10, 999.5 * 2.0**20), 2)


def number_column(values: Sequence[float | None], unit: str = "", decimals: int | None = None) -> Column:
    """Numbers as they are, three digits for the greatest; or with the decimals given."""
    known = [abs(value) for value in values if value is not None]
    if decimals is None:
        decimals = _decimals(max(known, default=1.0), 3)
    return Column(unit, [MISSING if value is None else _fixed(value, decimals) for value in values])


def _column(
    values: Sequence[float | None], units: Sequence[tuple[str, float]], limits: Sequence[float], finest: int
) -> Column:
    """`finest`: how many decimals may show the least."""
    known = [abs(value) for value in values if value]
    if not known:
        return Column(units[1][0], [MISSING if value is None else "0" for value in values])
    place = sum(max(known) >= limit for limit in limits)
    while place and min(known) / units[place][1] < 0.01:
        place -= 1
    unit, size_of_one = units[place]
    scaled = [None if value is None else value / size_of_one for value in values]
    least, most = min(known) / size_of_one, max(known) / size_of_one
    decimals = max(_decimals(most, 3), min(_decimals(least, 2) if least >= 0.0995 else 3, finest))
    return Column(unit, [MISSING if value is None else _fixed(value, decimals) for value in scaled])


def _decimals(value: float, digits: int) -> int:
    """How many decimals give `value` that many significant digits; 0 for large numbers."""
    return next((n for n in range(digits) if round(value, n) >= 10 ** (digits - 1 - n)), digits)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")
