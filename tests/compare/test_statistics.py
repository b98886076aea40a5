import itertools
import math
import statistics

import numpy as np
import pytest

from whisper_speedup.compare.statistics import line, median_interval, ratio_interval, repeat_interval, tail_share


def test_two_utterances_give_the_two_ratios_themselves():
    # Draws of two from two: both the first (a quarter), both the second (a quarter), one of each (half). So 2.5% and
    # 97.5% of the draws lie at the single ratios, 10/2 and 9/3.
    assert ratio_interval(np.array([10.0, 9.0]), np.array([2.0, 3.0])) == (3.0, 5.0)


def test_a_constant_ratio_has_no_width():
    after = np.array([0.5, 1.0, 4.0, 0.25])
    assert ratio_interval(3.0 * after, after) == pytest.approx((3.0, 3.0))


def test_a_known_sample_gives_the_interval_that_theory_predicts():
    # With a constant denominator of 1 the ratio is a mean, whose interval is 1.96 standard errors on either side.
    values = np.random.default_rng(1).normal(5.0, 2.0, size=4000)
    low, high = ratio_interval(values, np.ones_like(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.03 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.03 * half)


@pytest.mark.parametrize(("count", "student"), [(2, 12.706), (8, 2.365), (13, 2.179)])
def test_few_values_leave_out_less(count, student):
    # Student's t at 97.5% with count - 1 degrees of freedom, as tables have it; and the normal's tail there.
    widened = student * math.sqrt(count / (count - 1))
    assert tail_share(count) == pytest.approx(statistics.NormalDist().cdf(-widened), rel=0.01)
    assert tail_share(1_000_000) == pytest.approx(0.025, rel=1e-3)


def test_eight_rounds_hold_the_truth_about_as_often_as_said():
    # Two engines whose rounds vary by a few per cent, 3 times as fast in truth. Left plain, about 89 of 100 hold it.
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        before, after = 3 + 0.1 * chance.standard_normal(8), 1 + 0.05 * chance.standard_normal(8)
        low, high = ratio_interval(before, after, resamples=1000)
        held += low <= 3 <= high
    assert 0.92 <= held / 600 <= 0.97


def test_eight_disturbed_rounds_hold_the_truth_and_so_does_the_next_run():
    # Each engine is now and then slowed a lot. A ratio of sums would lie in the next run's interval 68 times of 100.
    chance = np.random.default_rng(1)
    held, agreed, before = 0, 0, None
    for _ in range(400):
        slow, fast = (1 + (chance.random(8) < 0.25) * chance.exponential(1.5, 8) for _ in range(2))
        ratios = 3 * slow / fast * np.exp(0.03 * chance.standard_normal(8))
        low, high = median_interval(ratios, resamples=1000)
        held += low <= 3 <= high
        agreed += before is not None and before[0] <= np.median(ratios) <= before[1]
        before = repeat_interval(ratios[None], resamples=1000)
    assert held / 400 > 0.93
    assert agreed / 399 > 0.93


def test_another_run_s_median_falls_where_it_is_said_to():
    # On a quiet machine too, where the interval for the truth holds it only 89 times of 100.
    chance = np.random.default_rng(3)
    runs = [np.exp(0.05 * chance.standard_normal(8)) for _ in range(600)]
    within = [
        sum(low <= np.median(other) <= high for run, other in itertools.pairwise(runs) for low, high in [find(run)])
        for find in (
            lambda run: median_interval(run, resamples=1000), lambda run: repeat_interval(run[None], resamples=1000)
        )
    ]  # fmt: skip
    assert within[0] / 599 < 0.92 < 0.94 < within[1] / 599


def test_a_known_sample_gives_the_known_interval_of_another_run():
    # A median of two from two is either value (a quarter each) or their mean: the most that two draws differ is 8 to 2.
    assert repeat_interval(np.array([[2.0, 8.0]])) == pytest.approx((5 * 2 / 8, 5 * 8 / 2))
    assert repeat_interval(np.array([[2.0], [8.0]])) == pytest.approx((5 * 2 / 8, 5 * 8 / 2))  # two starts
    assert repeat_interval(np.full((1, 5), 3.0)) == (3.0, 3.0)
    assert repeat_interval(np.full((5, 2), 3.0)) == (3.0, 3.0)


def test_one_round_says_nothing_of_another_run():
    assert repeat_interval(np.ones((1, 1))) is None


@pytest.mark.parametrize(("between", "within"), [(0.03, 0.02), (0.0, 0.02), (0.03, 0.0)])
def test_starts_that_differ_are_drawn_and_so_hold_the_next_run(between, within):
    # Four starts of two rounds hold 97, 100 and 94 of 100; drawn as eight rounds alike 92, 98 and 90 (1500 runs each).
    chance = np.random.default_rng(5)
    runs = [
        np.exp(between * chance.standard_normal((4, 1)) + within * chance.standard_normal((4, 2))) for _ in range(300)
    ]
    held = np.mean([low <= np.median(other) <= high for run, other in itertools.pairwise(runs)
                    for low, high in [repeat_interval(run, resamples=1000)]])  # fmt: skip
    assert held > 0.92
    if between and within:
        alike = np.mean([low <= np.median(other) <= high for run, other in itertools.pairwise(runs)
                         for low, high in [repeat_interval(run.reshape(1, 8), resamples=1000)]])  # fmt: skip
        assert alike < held - 0.03


def test_many_starts_are_drawn_in_several_parts(monkeypatch):
    values = np.exp(0.05 * np.random.default_rng(4).standard_normal((40, 3)))
    whole = repeat_interval(values, resamples=2000)
    monkeypatch.setattr("whisper_speedup.compare.statistics._DRAWS_AT_ONCE", 120 * 2 * 150)
    assert repeat_interval(values, resamples=2000) == pytest.approx(whole, rel=0.01)


def test_the_median_of_one_round_has_no_interval():
    assert median_interval(np.ones(1)) is None


def test_the_pairs_are_drawn_together():
    # Utterances differ a thousandfold in length, but the ratio of each is near 3: paired, the interval stays narrow.
    random = np.random.default_rng(2)
    after = 10.0 ** random.uniform(-2, 1, size=300)
    low, high = ratio_interval(after * random.uniform(2.9, 3.1, size=300), after)
    assert 2.9 < low < 3 < high < 3.1


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    before, after = np.arange(1.0, 40.0), np.sqrt(np.arange(1.0, 40.0))
    assert ratio_interval(before, after, seed=7) == ratio_interval(before, after, seed=7)
    assert ratio_interval(before, after, seed=7) != ratio_interval(before, after, seed=8)


def test_many_utterances_are_drawn_in_several_rounds():
    before = np.tile([2.0, 4.0], 1310)
    low, high = ratio_interval(before, np.ones(2620), resamples=2000)
    assert 2.9 < low < 3 < high < 3.1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_draw_from(count):
    assert ratio_interval(np.ones(count), np.ones(count)) is None


def test_a_draw_that_sums_to_nothing_has_no_ratio():
    assert ratio_interval(np.array([1.0, 1.0]), np.array([0.0, 1.0])) is None


def test_arrays_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError, match="one shape"):
        ratio_interval(np.ones(2), np.ones(3))


def test_a_line_through_points():
    x = np.array([2.0, 4, 6, 8, 10])
    assert line(x, 0.5 + 0.03 * x) == pytest.approx((0.03, 0.5))


@pytest.mark.parametrize("y", [[1.0] * 4, [5.0, 4, 3, 2, 1]])
def test_no_line_through_too_few_points_or_downwards(y):
    assert line(np.arange(len(y), dtype=float), np.array(y)) is None


def test_no_line_through_points_of_one_x():
    assert line(np.ones(6), np.arange(6.0)) is None
