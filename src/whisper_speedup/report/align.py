"""Two texts word by word, or character by character: what they share, and where one has others, more or fewer."""

import unicodedata
from dataclasses import dataclass
from typing import Literal

import jiwer

from whisper_speedup.report.rates import CHARACTERS, WORDS, Rate

Kind = Literal["same", "substitution", "insertion", "deletion"]


@dataclass(frozen=True)
class Piece:
    """A run of words (or characters): in both texts (`same`), or what each has where they part.

    A `deletion` is only in the left text, an `insertion` only in the right one. `number` counts the places where they
    part, from 1, and is the same for a reader of either text; 0 for `same`.
    """

    kind: Kind
    left: str
    right: str
    words: int  # how many words it takes to turn the left into the right
    number: int = 0


def align(left: str, right: str, rate: Rate = WORDS) -> list[Piece]:
    """The shortest edit from `left` to `right` by what `rate` counts, adjacent edits joined into one piece.

    By characters, spaces are left out and marks stay with their letter.
    """
    ours, theirs = (_letters(text) if rate is CHARACTERS else text.split() for text in (left, right))
    space = joiner(rate)
    chunks = jiwer.process_words([" ".join(ours)], [" ".join(theirs)]).alignments[0]
    runs: list[tuple[bool, str, str, int]] = []
    for chunk in chunks:
        before = space.join(ours[chunk.ref_start_idx : chunk.ref_end_idx])
        after = space.join(theirs[chunk.hyp_start_idx : chunk.hyp_end_idx])
        words = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        same = chunk.type == "equal"
        if not same and runs and not runs[-1][0]:
            _, left_before, right_before, words_before = runs.pop()
            before, after = f"{left_before}{space}{before}".strip(), f"{right_before}{space}{after}".strip()
            words += words_before
        runs.append((same, before, after, words))
    pieces: list[Piece] = []
    number = 0
    for same, before, after, words in runs:
        if same:
            pieces.append(Piece("same", before, after, 0))
            continue
        number += 1
        kind: Kind = "substitution" if before and after else "deletion" if before else "insertion"
        pieces.append(Piece(kind, before, after, words, number))
    return pieces


def joiner(rate: Rate) -> str:
    """What stands between the words or characters of a text."""
    return "" if rate is CHARACTERS else " "


def _letters(text: str) -> list[str]:
    found: list[str] = []
    for character in text:
        if found and unicodedata.category(character)[0] == "M":
            found[-1] += character
        elif not character.isspace():
            found.append(character)
    return found


def words_apart(pieces: list[Piece]) -> int:
    """The word-level edit distance."""
    return sum(piece.words for piece in pieces)
