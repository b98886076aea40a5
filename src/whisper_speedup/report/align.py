"""Two texts word by word: which words they share and which only one of them has."""

from dataclasses import dataclass
from typing import Literal

import jiwer


@dataclass(frozen=True)
class Piece:
    """A run of words: in both texts (`same`), or what each has at a place where they part (either may be empty)."""

    kind: Literal["same", "differ"]
    left: str
    right: str
    words: int  # how many words it takes to turn the left into the right


def align(left: str, right: str) -> list[Piece]:
    """The shortest word-level edit from `left` to `right`, adjacent edits joined into one piece."""
    ours, theirs = left.split(), right.split()
    chunks = jiwer.process_words([" ".join(ours)], [" ".join(theirs)]).alignments[0]
    pieces: list[Piece] = []
    for chunk in chunks:
        before = " ".join(ours[chunk.ref_start_idx : chunk.ref_end_idx])
        after = " ".join(theirs[chunk.hyp_start_idx : chunk.hyp_end_idx])
        words = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        if chunk.type == "equal":
            pieces.append(Piece("same", before, after, 0))
        elif pieces and pieces[-1].kind == "differ":
            last = pieces.pop()
            joined = f"{last.left} {before}".strip(), f"{last.right} {after}".strip()
            pieces.append(Piece("differ", *joined, last.words + words))
        else:
            pieces.append(Piece("differ", before, after, words))
    return pieces


def words_apart(pieces: list[Piece]) -> int:
    """The word-level edit distance."""
    return sum(piece.words for piece in pieces)
