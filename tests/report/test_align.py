import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_speedup.report.align import Piece, align, words_apart


def test_a_substitution_an_insertion_and_a_deletion():
    assert align("the cat sat", "the dog sat") == [
        Piece("same", "the", "the", 0), Piece("substitution", "cat", "dog", 1, 1), Piece("same", "sat", "sat", 0),
    ]  # fmt: skip
    assert align("a c", "a b c")[1] == Piece("insertion", "", "b", 1, 1)
    assert align("a b c", "a c")[1] == Piece("deletion", "b", "", 1, 1)


def test_the_places_where_they_part_are_counted():
    pieces = align("a b c d", "x b d")
    assert [(piece.kind, piece.number) for piece in pieces if piece.kind != "same"] == [
        ("substitution", 1), ("deletion", 2),
    ]  # fmt: skip


def test_neighbouring_edits_are_one_piece():
    assert align("to day we", "today we") == [
        Piece("substitution", "to day", "today", 2, 1),
        Piece("same", "we", "we", 0),
    ]


@pytest.mark.parametrize(("left", "right"), [("", ""), ("", "two words"), ("two words", "")])
def test_empty_texts(left, right):
    assert words_apart(align(left, right)) == max(len(left.split()), len(right.split()))


texts = st.lists(st.sampled_from(["a", "b", "c", "\u00a0x", "<b>", "\u202eright"]), max_size=8).map(" ".join)


@given(texts, texts)
def test_no_word_is_lost_or_made_up(left, right):
    pieces = align(left, right)
    assert " ".join(piece.left for piece in pieces).split() == left.split()
    assert " ".join(piece.right for piece in pieces).split() == right.split()
    assert (words_apart(pieces) == 0) == (left.split() == right.split())
