"""One way to write each kind of number, with its unit. What is missing is a dash."""

MISSING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


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


def times(value: float | None) -> str:
    """A ratio with the sign of multiplication after it: 2.81x."""
    return MISSING if value is None else f"{_ratio(value)}{TIMES}"


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
    return (text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")) + " points"


def count(value: int | None) -> str:
    """A whole number with commas at the thousands: 2,620."""
    return MISSING if value is None else f"{value:,}"


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
