"""The bootstrap: how far a ratio of sums would move with other utterances, and a median of ratios in another run."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

RESAMPLES = 10_000
SEED = 20230131  # any fixed number would do: this is the day the notebook was run
LEVEL = 0.95
_DRAWS_AT_ONCE = 2_000_000

Array = npt.NDArray[np.float64]


def ratio_interval(
    numerator: Array, denominator: Array, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float] | None:
    """The expanded percentile bootstrap interval of sum(numerator) / sum(denominator).

    Both arrays have shape (count,), one entry an utterance, in the same order; the pairs are drawn together, so that a
    long utterance is long for both. Returns None for fewer than two (nothing to draw from) or when a draw has a sum of
    zero below the line.
    """
    if numerator.shape != denominator.shape or numerator.ndim != 1:
        raise ValueError(f"two arrays of one shape (count,) are needed, not {numerator.shape}, {denominator.shape}")
    count = len(numerator)
    if count < 2:
        return None
    random = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // count)
    ratios = np.empty(resamples)
    for start in range(0, resamples, chunk):
        drawn = random.integers(0, count, size=(min(chunk, resamples - start), count))
        below = denominator[drawn].sum(axis=1)
        if not np.all(below):
            return None
        ratios[start : start + chunk] = numerator[drawn].sum(axis=1) / below
    tail = tail_share(count, level)
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def median_interval(
    values: Array, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float] | None:
    """The expanded percentile bootstrap interval of the median of `values`, shape (count,); None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    tail = tail_share(count, level)
    low, high = np.quantile(np.median(values[drawn], axis=1), [tail, 1 - tail])
    return float(low), float(high)


def repeat_interval(
    values: Array, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float] | None:
    """Where the median of another such array is to be expected; `values` has shape (starts, rounds), all above zero.

    `median_interval` says where the truth is. Another run's median strays from it as much as this one's did, so two
    medians are drawn, and the interval is this run's median times what their ratio may be: about sqrt(2) as wide, as
    the repeatability limit of ISO 5725-6 is, and as far up as down. Drawn are starts, and of each that is drawn its
    rounds (a two-stage bootstrap), for the rounds of one start are more alike than those of two. The tails go by the
    number of starts; with one start, which says nothing of others, by its rounds. None for a single value.
    """
    starts, rounds = values.shape
    if values.size < 2:
        return None
    random = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // (2 * values.size))
    ratios = np.empty(resamples)
    for begin in range(0, resamples, chunk):
        shape = (2, min(chunk, resamples - begin), starts)
        drawn = values[random.integers(0, starts, shape)[..., None], random.integers(0, rounds, (*shape, rounds))]
        one, other = np.median(drawn.reshape(*shape[:2], values.size), axis=2)
        ratios[begin : begin + shape[1]] = one / other
    tail = tail_share(starts if starts > 1 else rounds, level)
    low, high = float(np.median(values)) * np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def tail_share(count: int, level: float = LEVEL) -> float:
    """The share of draws to leave out at each end of an interval from `count` values, `count` > 1.

    (1 - level) / 2 for many. Draws from few values spread less than the values' own population: with 8 values the plain
    percentile interval of 95% holds the truth 89 times of 100. The expanded one (T. Hesterberg, "What Teachers Should
    Know About the Bootstrap", The American Statistician 69, 2015, section 4.3) leaves out less, as Student's t does.
    """
    widened = math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + level) / 2))
    return float(ndtr(-widened))


def line(x: Array, y: Array) -> tuple[float, float] | None:
    """Slope and intercept of the least-squares line through points of shape (utterances,).

    Returns None for fewer than five points, for points of one x, and for a slope that is not above zero: then time
    did not grow with x, and the line says nothing.
    """
    if len(x) < 5 or np.ptp(x) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return (float(slope), float(intercept)) if slope > 0 else None
