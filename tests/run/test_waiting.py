"""Chunks: every utterance once, whoever is lost."""

import random

from whisper_speedup.run.waiting import TRIES, Waiting


def test_chunks_shrink_towards_the_end() -> None:
    waiting = Waiting(range(1000), workers=2, largest=64)
    sizes = []
    while chunk := waiting.take(0):
        sizes.append(len(chunk))
    assert sizes[0] == 64
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 1000


def test_a_row_is_done_once_and_by_its_own_worker() -> None:
    waiting = Waiting([7], workers=2)
    assert not waiting.finished
    assert waiting.take(0) == [7]
    assert waiting.take(1) == []
    assert not waiting.done(1, 7)
    assert waiting.done(0, 7)
    assert not waiting.done(0, 7)
    assert waiting.finished


def test_what_a_lost_worker_had_goes_out_again_in_its_order() -> None:
    waiting = Waiting(range(40), workers=1, largest=4)
    assert waiting.take(0) == [0, 1, 2, 3]
    waiting.done(0, 1)
    assert waiting.lost(0) == []
    assert waiting.take(1) == [0, 2, 3]
    assert waiting.take(1) == [4, 5, 6, 7]


def test_the_third_loss_with_an_utterance_gives_up_that_one_alone() -> None:
    waiting = Waiting(range(8), workers=1, largest=4)
    given_up: list[int] = []
    for worker in range(100):  # utterance 2 kills whoever has it
        while chunk := waiting.take(worker):
            for number in chunk:
                if number == 2:
                    break
                assert waiting.done(worker, number)
            if 2 in chunk:
                given_up += waiting.lost(worker)
                break
        if waiting.finished:
            break
    assert given_up == [2]
    assert worker == TRIES


def test_one_under_suspicion_is_alone_with_its_worker() -> None:
    waiting = Waiting(range(9), workers=1, largest=2)
    for worker in range(TRIES - 1):
        assert waiting.take(worker) == [0, 1]
        waiting.lost(worker)
    assert waiting.take(5) == [0]
    assert waiting.take(5) == []  # not before 0 has come back
    assert waiting.take(6) == [1]
    waiting.done(5, 0)
    assert waiting.take(5) == [2]


def test_who_has_enough() -> None:
    waiting = Waiting(range(100), workers=2, largest=8)
    assert not waiting.enough(0, slots=4, workers=2)
    for _ in range(3):
        waiting.take(0)
    assert not waiting.enough(0, slots=4, workers=2)  # 24 of 100 are less than a quarter
    waiting.take(0)
    assert waiting.enough(0, slots=4, workers=2)
    assert not waiting.enough(0, slots=40, workers=2)  # its slots would stand empty
    assert not waiting.enough(1, slots=4, workers=2)
    while waiting.take(1):
        pass
    assert not waiting.enough(0, slots=4, workers=2)  # nothing waits: it is told so at once


def test_any_order_of_losses_ends_with_each_utterance_done_or_given_up_once() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        waiting, ended, alive = Waiting(range(60), 3, 8), [], {0, 1, 2}
        having: dict[int, list[int]] = {0: [], 1: [], 2: []}
        while not waiting.finished:
            worker = chance.choice(sorted(alive))
            move = chance.random()
            if move < 0.1:
                ended += waiting.lost(worker)
                having[worker] = []
            elif having[worker] and move < 0.8:
                number = having[worker].pop()
                if waiting.done(worker, number):
                    ended.append(number)
            else:
                having[worker] += waiting.take(worker)
        assert sorted(ended) == list(range(60))
