"""Rounds with known seconds give the interval that follows from them; rounds that do not belong here are refused."""

import math

import numpy as np
import pytest
from generated_rounds import some_seconds, write_rounds
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.compare.statistics import repeat_interval, tail_share
from whisper_speedup.disk.files import read_json, read_jsonl, write_json, write_jsonl
from whisper_speedup.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared(made, here, seconds, **changes):
    made.write(here)
    write_rounds(here, made, seconds, **changes)
    folder = compare(profile(), "example", params())
    return read_json(folder / "metrics.json"), read_json(folder / "context.json")


def interval(metrics):
    return metrics["fused.speedup_rounds_low"], metrics["fused.speedup_rounds_high"]


def test_a_constant_ratio_has_no_width(here):
    slow = [[1.0, 2.0], [5.0, 1.5], [0.25, 9.0]]
    fast = [[value / 4 for value in row] for row in slow]
    metrics, context = compared(generate(3), here, {"huggingface": slow, "fused": fast})
    assert metrics["fused.speedup_rounds"] == pytest.approx(4)
    assert interval(metrics) == pytest.approx((4, 4))
    assert context["comparisons"]["fused"]["rounds"]["speedups"] == pytest.approx([4, 4, 4])


def test_two_rounds_give_the_two_ratios_themselves(here):
    # The rounds' own are (8 + 2) / (1 + 1) and (6 + 3) / (2 + 1). Of two draws of two, the most that their medians
    # differ is 5 to 3.
    metrics, _ = compared(generate(2), here, {"huggingface": [[8, 2], [6, 3]], "fused": [[1, 1], [2, 1]]})
    assert metrics["fused.speedup_rounds"] == 4
    assert interval(metrics) == pytest.approx((4 * 3 / 5, 4 * 5 / 3))


def test_nine_rounds_give_the_interval_that_the_binomial_distribution_gives(here):
    # A draw's median is at most the k-th smallest ratio when at least five of its nine values are: each is with k/9.
    ratios = sorted([2.9, 3.4, 3.0, 9.0, 3.1, 2.2, 3.2, 3.3, 2.8])
    metrics, _ = compared(generate(2), here, {"huggingface": [[ratio] for ratio in ratios], "fused": [[1.0]] * 9})

    def share(k):
        return sum(math.comb(9, n) * (k / 9) ** n * (1 - k / 9) ** (9 - n) for n in range(5, 10))

    chance = [share(k) - share(k - 1) for k in range(1, 10)]
    pairs = sorted(
        (a / b, chance[i] * chance[j]) for i, a in enumerate(ratios) for j, b in enumerate(ratios)
    )  # the ratio of two draws' medians, and how often it comes

    def at(wanted):
        below = 0.0
        for ratio, often in pairs:
            below += often
            if below >= wanted:
                return ratio
        raise AssertionError

    tail = tail_share(9)
    assert metrics["fused.speedup_rounds"] == 3.1
    # Either end may be off by one draw of 10,000: the neighbouring ratios are that near.
    assert interval(metrics) == pytest.approx((3.1 * at(tail), 3.1 * at(1 - tail)), rel=0.01)
    assert interval(metrics)[1] < 4  # the round of 9.0 is no end


def test_a_disturbance_in_one_round_does_not_move_the_speedup(here):
    slow, fast = [[3.0], [3.03], [2.97], [3.0], [90.0]], [[1.0]] * 5
    metrics, _ = compared(generate(1), here, {"huggingface": slow, "fused": fast})
    assert metrics["fused.speedup_rounds"] == 3


def test_two_starts_give_what_two_starts_can_differ_by(here):
    # The rounds of a start are alike, so a draw's median is 2, 8 or their mean, as from two rounds in all.
    slow, fast = [[2.0], [2.0], [2.0], [8.0], [8.0], [8.0]], [[1.0]] * 6
    metrics, context = compared(generate(1), here, {"huggingface": slow, "fused": fast}, starts=2)
    assert metrics["fused.speedup_rounds"] == 5
    assert interval(metrics) == pytest.approx((5 * 2 / 8, 5 * 8 / 2))
    assert context["rounds"]["rounds"] == {"starts": 2, "count": 3, "clips": 1, "seed": 0}
    assert context["comparisons"]["fused"]["rounds"]["speedups"] == [2, 2, 2, 8, 8, 8]


def test_what_is_drawn_first_is_a_start_and_not_the_rounds_of_one_number(here):
    starts = [[2.0, 2.1], [3.0, 3.1], [4.0, 4.1], [5.0, 5.1], [8.0, 8.1]]
    slow = [[value] for start in starts for value in start]  # in the order of time
    metrics, _ = compared(generate(1), here, {"huggingface": slow, "fused": [[1.0]] * 10}, starts=5)
    assert interval(metrics) == pytest.approx(repeat_interval(np.array(starts)))
    assert interval(metrics) != pytest.approx(repeat_interval(np.array(starts).reshape(2, 5)))


def test_over_utterances_and_over_rounds_are_apart(here):
    # Utterances differ and rounds do not: an interval over utterances only. And the other way round.
    made = generate(4)
    for slow, fast, value in zip(*made.results.values(), (2.0, 3.0, 8.0, 5.0), strict=True):
        slow["seconds"], fast["seconds"] = [value], [1.0]
    metrics, _ = compared(made, here, {"huggingface": [[2, 3, 8, 5]] * 4, "fused": [[1, 1, 1, 1]] * 4})
    assert metrics["fused.speedup"] == metrics["fused.speedup_rounds"] == 4.5
    assert interval(metrics) == (4.5, 4.5)
    assert metrics["fused.speedup_low"] < 3
    for row in made.results["huggingface"]:
        row["seconds"] = [4.5]
    metrics, _ = compared(made, here, {"huggingface": [[2], [3], [8], [5]], "fused": [[1]] * 4})
    assert (metrics["fused.speedup_low"], metrics["fused.speedup_high"]) == (4.5, 4.5)
    assert interval(metrics) == pytest.approx((4 * 2 / 8, 4 * 8 / 2))


def test_a_clip_without_output_leaves_the_pair(here):
    metrics, context = compared(generate(2), here, {"huggingface": [[8, 2], [6, 3]], "fused": [[1, None], [2, 1]]})
    assert metrics["fused.speedup_rounds"] == 5.5
    assert context["comparisons"]["fused"]["rounds"]["clips"] == 1
    metrics, context = compared(generate(1), here, {"huggingface": [[None], [6]], "fused": [[1], [1]]})
    assert metrics["fused.speedup_rounds"] is None
    assert context["comparisons"]["fused"]["rounds"] is None


def test_without_rounds_their_numbers_are_null(here):
    made = generate(2)
    made.write(here)
    folder = compare(profile(), "example", params())
    assert interval(read_json(folder / "metrics.json")) == (None, None)
    write_json(here / "build" / "example" / "rounds" / "rounds.json", {"profile": "example", "rounds": None})
    compare(profile(), "example", params())
    assert read_json(folder / "context.json")["rounds"] is None
    assert read_json(folder / "context.json")["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_sha256": "0" * 64}, "from other data"),
        ({"weights_sha256": "0" * 64}, "with other weights"),
        ({"profile": "other"}, "another profile's"),
        ({"engines": {"huggingface": {}}}, "every turn"),
        ({"clips": ["somebody else's"]}, "every turn"),
        ({"rounds": {"starts": 1, "count": 9, "clips": 4, "seed": 0}}, "every turn"),
        ({"rounds": {"starts": 2, "count": 4, "clips": 4, "seed": 0}}, "every turn"),  # made in one
        ({"rounds": {"count": 8, "clips": 4, "seed": 0}}, "every turn"),  # from before starts were counted
    ],
)
def test_what_does_not_belong_here_is_refused(here, changes, words):
    made = generate(4)
    with pytest.raises(UserError, match=words):
        compared(made, here, some_seconds(made), **changes)
    assert not (here / "reports").exists()


def test_a_turn_twice_or_none_is_refused(here):
    made = generate(4)
    made.write(here)
    path = write_rounds(here, made, some_seconds(made)) / "rounds.jsonl"
    rows = read_jsonl(path)
    for damaged in (rows[:-1], [*rows[:-1], rows[0]], [*rows[:-1], rows[-1] | {"seconds": 0.0}], [{"round": 1}]):
        write_jsonl(path, damaged)
        with pytest.raises(UserError, match="every turn"):
            compare(profile(), "example", params())


def test_energy_for_an_hour_of_audio(here):
    made = generate(2, cuda=True)
    # 300 W for 60 s while 1800 s of audio are decoded: 5 Wh for half an hour of it.
    made.about["fused"]["energy"] = {"joules": 18000.0, "seconds": 60.0, "audio_s": 1800.0}
    for row in made.results["fused"]:
        row["device_seconds"] = [0.5, 0.7, 0.6]
    made.write(here)
    metrics = read_json(compare(profile(), "example", params()) / "metrics.json")
    assert metrics["fused.energy_per_audio_hour_wh"] == pytest.approx(10)
    assert metrics["huggingface.energy_per_audio_hour_wh"] is None
    assert metrics["fused.device_total_s"] == pytest.approx(1.2)
    assert metrics["huggingface.device_total_s"] is None
