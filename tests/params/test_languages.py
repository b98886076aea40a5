"""Languages as people type them."""

from pathlib import Path

import pytest
import yaml
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from whisper_speedup.errors import UserError
from whisper_speedup.params.languages import language_code
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import read_section


def read(tmp_path: Path, typed: str) -> str | None:
    """The language of a generation section whose YAML has `typed` for it."""
    rest = {"num_beams": 5, "max_length": 50, "min_length": 1, "length_penalty": 1.0, "early_stopping": False}
    path = tmp_path / "generation.yaml"
    path.write_text(f"{yaml.safe_dump(rest)}task: transcribe\nlanguage: {typed}\n", encoding="utf-8")
    return read_section(GenerationParams, path).language


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("English", "en"), ("EN", "en"), ("<|en|>", "en"), ("' Hindi '", "hi"), ("HI", "hi"), ("Mandarin", "zh"),
        ("haitian  CREOLE", "ht"), ("<|YUE|>", "yue"), ("Burmese", "my"), ("'no'", "no"), ("Norwegian", "no"),
        ("null", None),
    ],
)  # fmt: skip
def test_by_name_or_code_in_any_case(tmp_path: Path, typed: str, code: str | None) -> None:
    assert read(tmp_path, typed) == code


def test_all_that_whisper_knows() -> None:
    assert {language_code(name.title()) for name in TO_LANGUAGE_CODE} == set(LANGUAGES)
    assert all(language_code(code.upper()) == code for code in LANGUAGES)


@pytest.mark.parametrize(
    ("typed", "near"),
    [("Hindu", "perhaps hindi"), ("en-US", "perhaps en"), ("pt_BR", "perhaps pt"), ("Englsh", "perhaps english"),
     ("xx", "such as Hindi or hi"), ("''", "such as Hindi or hi"), ("no", "unquoted no is false"),
     ("3", "valid string")],
)  # fmt: skip
def test_an_unknown_one_is_one_sentence_with_those_spelled_nearly_so(tmp_path: Path, typed: str, near: str) -> None:
    with pytest.raises(UserError, match=r"generation\.yaml: language is .*, but ") as refused:
        read(tmp_path, typed)
    assert near in str(refused.value)
    assert "\n" not in str(refused.value)
