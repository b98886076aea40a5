"""What waits for a slot: order, bounds, errors, and threads that end."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from whisper_speedup.fused.batch_prefetch import Given, Prefetched

LONG_S = 600  # ends a test that hangs, and no busy machine reaches it


def test_the_longest_of_what_is_ready_goes_first_then_the_earliest() -> None:
    with Prefetched([1, 5, 3, 5, 2], lambda one: (one, threading.current_thread().name), float, 8, 2) as waiting:
        taken = waiting.take(5, wait=True)
    assert [one for one, _ in taken] == [5, 5, 3, 2, 1]
    assert all(name.startswith("features") for _, name in taken)


def test_no_more_than_held_are_pulled_however_many_there_are() -> None:
    pulled: list[int] = []
    enough = threading.Event()

    def source() -> Iterator[int]:
        for number in count():  # without an end
            pulled.append(number)
            if len(pulled) == 6:
                enough.set()
            yield number

    with Prefetched(source(), lambda one: one, lambda one: 0.0, held=6, workers=3) as waiting:
        assert enough.wait(LONG_S)
        assert waiting.at_least(6) == 6
        assert len(waiting.take(4, wait=True)) == 4
        for _ in range(20):
            assert len(waiting.take(6, wait=True)) == 6
        assert len(pulled) <= 4 + 20 * 6 + 6 + 1
    waiting.thread.join(LONG_S)
    assert not waiting.thread.is_alive()


def test_nothing_is_taken_before_a_whole_batch_is_ready_unless_no_more_come() -> None:
    go = threading.Event()

    def work(one: int) -> int:
        if one:
            assert go.wait(LONG_S)
        return one

    with Prefetched([0, 1, 2], work, float, 4, 2) as waiting:
        assert waiting.at_least(4) == 3
        assert waiting.take(2, wait=False) == []
        go.set()
        with waiting.changed:  # two threads work: 1 may be ready, and taken with 0, before 2 is begun
            assert waiting.changed.wait_for(lambda: len(waiting.ready) == 3, LONG_S)
        assert waiting.take(2, wait=True) == [2, 1]
        assert waiting.take(2, wait=True) == [0]
        assert waiting.take(2, wait=True) == []


@pytest.mark.parametrize("where", ["source", "work"])
def test_errors_come_to_who_waits(where: str) -> None:
    def source() -> Iterator[int]:
        yield 1
        if where == "source":
            raise OSError("the disk is gone")

    def work(one: int) -> int:
        if where == "work":
            raise OSError("the disk is gone")
        return one

    with Prefetched(source(), work, float, 4, 1) as waiting, pytest.raises(OSError, match="the disk is gone"):
        waiting.take(2, wait=True)
    waiting.thread.join(LONG_S)
    assert not waiting.thread.is_alive()


def test_leaving_early_ends_the_threads() -> None:
    with Prefetched(count(), lambda one: one, float, 4, 2) as waiting:
        waiting.take(1, wait=True)
    waiting.thread.join(LONG_S)
    assert not waiting.thread.is_alive()


def test_what_is_given_keeps_its_order() -> None:
    given = Given([1, 5, 3])
    assert (given.at_least(2), given.at_least(9)) == (2, 3)
    assert (given.take(2, wait=True), given.take(2, wait=False), given.take(2, wait=True)) == ([1, 5], [3], [])
