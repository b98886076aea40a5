"""Two texts word by word: which words they share, and where one has other words, more or fewer."""

from dataclasses import dataclass
from typing import Literal

import jiwer

Kind = Literal["same", "substitution", "insertion", "deletion"]


@dataclass(frozen=True)
class Piece:
    """A run of words: in both texts (`same`), or what each has where they part.

    A `deletion` is only in the left text, an `insertion` only in the right one. `number` counts the places where they
    part, from 1, and is the same for a reader of either text; 0 for `same`.
    """

    kind: Kind
    left: str
    right: str
    words: int  # how many words it takes to turn the left into the right
    number: int = 0


def align(left: str, right: str) -> list[Piece]:
    """The shortest word-level edit from `left` to `right`, adjacent edits joined into one piece."""
    ours, theirs = left.split(), right.split()
    chunks = jiwer.process_words([" ".join(ours)], [" ".join(theirs)]).alignments[0]
    runs: list[tuple[bool, str, str, int]] = []
    for chunk in chunks:
        before = " ".join(ours[chunk.ref_start_idx : chunk.ref_end_idx])
        after = " ".join(theirs[chunk.hyp_start_idx : chunk.hyp_end_idx])
        words = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        same = chunk.type == "equal"
        if not same and runs and not runs[-1][0]:
            _, left_before, right_before, words_before = runs.pop()
            before, after = f"{left_before} {before}".strip(), f"{right_before} {after}".strip()
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


def words_apart(pieces: list[Piece]) -> int:
    """The word-level edit distance."""
    return sum(piece.words for piece in pieces)
