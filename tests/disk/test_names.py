"""Places of names, and names that are there twice."""

import pytest

from whisper_speedup.disk.names import Names


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_each_name_has_its_place(count: int) -> None:
    names = Names(f"utterance {number}" for number in range(count))
    assert len(names) == count
    assert [names.find(f"utterance {number}") for number in range(count)] == list(range(count))
    assert names.find("a stranger") is None
    assert names.twice() is None


def test_the_first_of_two() -> None:
    names = Names(["x", "b", "a", "b", "a"])
    assert names.twice() == 1
    assert (names.find("a"), names.find("b"), names.find("x")) == (2, 1, 0)
