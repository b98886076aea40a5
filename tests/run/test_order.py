from collections import Counter

import pytest

from whisper_speedup.audio.row import Row
from whisper_speedup.run.order import orders, subset


def row(name: str, duration_s: float, error: str | None = None) -> Row:
    return Row(
        id=name, audio=None if error else f"audio/{name}.flac", sha256=None if error else "0" * 64,
        duration_s=duration_s, sampling_rate=16000, reference=None, speaker=None, cut_from_s=None, error=error,
    )  # fmt: skip


ROWS = [row("long", 20.0), row("bad", 0.0, "cannot be read"), *(row(f"c{n}", 2.0 + n) for n in range(7))]


def test_the_clips_reach_from_short_to_long_in_the_manifest_s_order() -> None:
    # By length: c0 to c6, then long. Quarters of two: the second of each.
    assert [r.id for r in subset(ROWS, 4)] == ["long", "c1", "c3", "c5"]
    assert [r.id for r in subset(ROWS, 1)] == ["c4"]


@pytest.mark.parametrize("count", [8, 100])
def test_all_readable_clips_where_there_are_no_more(count: int) -> None:
    assert [r.id for r in subset(ROWS, count)] == ["long", *(f"c{n}" for n in range(7))]


def test_each_engine_has_each_place_once_in_a_block() -> None:
    found = orders(["a", "b", "c"], 6, seed=3)
    for block in (found[:3], found[3:]):
        for place in range(3):
            assert sorted(order[place] for order in block) == ["a", "b", "c"]
    assert all(sorted(order) == ["a", "b", "c"] for order in found)


def test_an_odd_number_of_rounds_and_the_seed() -> None:
    found = orders(["a", "b"], 7, seed=0)
    assert len(found) == 7
    assert max(Counter(order[0] for order in found).values()) == 4
    assert found == orders(["a", "b"], 7, seed=0)
    assert any(found != orders(["a", "b"], 7, seed) for seed in range(1, 6))
