import json

import pytest

from whisper_speedup.compare.wer import (
    WordErrors,
    any_language,
    character_errors,
    load_normaliser,
    total,
    without_symbols,
    word_errors,
)
from whisper_speedup.errors import UserError


def test_each_kind_of_error_is_counted():
    assert word_errors("the cat sat on the mat", "the cat sat on the mat") == WordErrors(0, 0, 0, 6)
    assert word_errors("the cat sat on the mat", "the dog sat the mat now") == WordErrors(1, 1, 1, 6)


def test_empty_texts():
    assert word_errors("", "") == WordErrors(0, 0, 0, 0)
    assert word_errors("", "two words") == WordErrors(0, 2, 0, 0)
    assert word_errors("two words", "") == WordErrors(0, 0, 2, 2)


def test_counts_add_up():
    both = total([WordErrors(1, 2, 3, 10), WordErrors(0, 1, 0, 4)])
    assert both == WordErrors(1, 3, 3, 14)
    assert both.errors == 7
    assert total([]) == WordErrors(0, 0, 0, 0)


def test_the_checkpoint_s_spellings_are_used(tmp_path):
    (tmp_path / "normalizer.json").write_text(json.dumps({"colour": "color"}))
    normalise, has_table = load_normaliser(tmp_path)
    assert has_table
    assert normalise("The COLOUR, Mr. Smith!") == "the color mister smith"


def test_without_a_table_spellings_stay(tmp_path):
    normalise, has_table = load_normaliser(tmp_path)
    assert not has_table
    assert normalise("Colour") == "colour"


@pytest.mark.parametrize("content", ["[]", '{"colour": 3}', "not JSON"])
def test_a_damaged_table_is_refused(tmp_path, content):
    (tmp_path / "normalizer.json").write_text(content)
    with pytest.raises(UserError, match=r"normalizer\.json"):
        load_normaliser(tmp_path)


def test_a_missing_model_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="gone does not exist"):
        load_normaliser(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947, \u0926\u0941\u0928\u093f\u092f\u093e!",
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
        ),
        ("ที่นี่", "ที่นี่"),
        ("  Ça\u00a0va?  Oui\N{HORIZONTAL ELLIPSIS} [rires] ", "ça va oui"),
        ("Ｗｈｉｓｐｅｒ、①", "whisper 1"),
        ("cafe\u0301", "café"),
        ("İstanbul", "istanbul"),
        ("❤\ufe0f 👩\u200d👩\u200d👧 ja", "ja"),  # a mark and joiners that belong to symbols
        ("\u202bשלום\u202c\u200f", "שלום"),  # direction marks
        ("?!\u3002", ""),
        ("", ""),
    ],
)
def test_any_language_keeps_marks_and_drops_symbols(text, expected):
    assert any_language()(text) == expected


def test_a_mark_on_its_own_is_no_word():
    assert without_symbols("\u0301").isspace()
    assert without_symbols("+\u0301a").split() == ["a"]


def test_two_wrong_words_of_two_in_hindi():
    normalise = any_language()
    # Only the vowel signs differ.
    assert word_errors(normalise("की में"), normalise("का मैं")) == WordErrors(2, 0, 0, 2)


def test_characters_are_counted_without_spaces():
    assert character_errors("今天 天氣很好我們去公園", "今天天 氣很好我們去花園") == WordErrors(1, 0, 0, 11)
    assert character_errors("", "") == WordErrors(0, 0, 0, 0)
    assert character_errors(" ", "你好") == WordErrors(0, 2, 0, 0)
    assert character_errors("你好", "") == WordErrors(0, 0, 2, 2)
