"""Which clips the rounds decode, and in which order the engines take their turns."""

import random

from whisper_speedup.audio.row import Row


def subset(rows: list[Row], count: int) -> list[Row]:
    """`count` readable rows (all where there are fewer), spread evenly from the shortest to the longest.

    No seed: the same manifest gives the same clips. They come in the manifest's order.
    """
    readable = [row for row in rows if row.error is None]
    by_length = sorted(readable, key=lambda row: (row.duration_s, row.id))
    if count < len(by_length):
        # The middle one of each of `count` equal parts.
        by_length = [by_length[int((place + 0.5) * len(by_length) / count)] for place in range(count)]
    chosen = {row.id for row in by_length}
    return [row for row in readable if row.id in chosen]


def orders(engines: list[str], count: int, seed: int) -> list[list[str]]:
    """The engines' order in each of `count` rounds, those of all starts counted.

    As many rounds as there are engines make a block, in which each engine comes first once, second once, and so on;
    each block begins from another shuffle, so that nobody always follows the same engine.
    """
    chance = random.Random(seed)  # noqa: S311 (an order, not a secret)
    found: list[list[str]] = []
    while len(found) < count:
        block = chance.sample(engines, len(engines))
        found += [block[start:] + block[:start] for start in range(len(block))]
    return found[:count]
