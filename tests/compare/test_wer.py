import json

import pytest

from whisper_speedup.compare.wer import WordErrors, load_normaliser, total, word_errors
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
