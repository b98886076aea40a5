"""Error rates: jiwer's alignment, by words and by characters, of texts normalised as Whisper's authors do."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from whisper_speedup.disk.files import read_json
from whisper_speedup.errors import UserError

Normaliser = Callable[[str], str]


@dataclass(frozen=True)
class WordErrors:
    """What separates a hypothesis from its reference, in words, or in characters where `character_errors` counted.

    `words` is the length of the reference, in the same unit.
    """

    substitutions: int
    insertions: int
    deletions: int
    words: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions


def load_normaliser(model_dir: Path) -> tuple[Normaliser, bool]:
    """transformers' English normaliser with the checkpoint's spelling table, and whether there was a table.

    Raises UserError when `model_dir` does not exist or its normalizer.json is no table of words.
    """
    if not model_dir.is_dir():
        raise UserError(
            f"{model_dir} does not exist, though model.json names it: run dvc repro to make the model again."
        )
    path = model_dir / "normalizer.json"
    if not path.is_file():
        return EnglishTextNormalizer({}), False
    table = read_json(path)
    if not isinstance(table, dict) or not all(isinstance(word, str) for word in table.values()):
        raise UserError(f"{path} is not a table of spellings: replace it with the one of the Whisper checkpoint.")
    return EnglishTextNormalizer(table), True


def without_symbols(text: str) -> str:
    """`text` in NFKC, with a space for each symbol and punctuation mark.

    transformers' `remove_symbols`, which takes combining marks out too: Hindi's vowel signs, Thai's vowels and tones
    are such marks, and without them other words become the same. So a mark stays with its letter, and goes where it has
    none (emoji have some). Joiners and direction marks (category Cf) cannot be seen, so they count for nothing.
    https://github.com/huggingface/transformers/blob/v5.17.0/src/transformers/models/whisper/english_normalizer.py
    """
    kept: list[str] = []
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if kind == "Cf":
            continue
        alone = kind[0] == "M" and (not kept or kept[-1].isspace())
        kept.append(" " if kind[0] in "SP" or alone else character)
    return "".join(kept)


def any_language() -> Normaliser:
    """transformers' normaliser for languages other than English, with marks kept and single spaces."""
    basic = BasicTextNormalizer(remove_diacritics=False)
    basic.clean = without_symbols

    def normalise(text: str) -> str:
        # Python's small Turkish I with a dot is an i with a combining dot.
        return " ".join(basic(text).replace("i\u0307", "i").split())

    return normalise


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Align two normalised texts. An empty reference is allowed: every word of the hypothesis is then an insertion."""
    import jiwer  # the judge of this package serves scripts on machines that have no jiwer

    output = jiwer.process_words([reference], [hypothesis])
    words = output.hits + output.substitutions + output.deletions
    return WordErrors(output.substitutions, output.insertions, output.deletions, words)


def character_errors(reference: str, hypothesis: str) -> WordErrors:
    """The same character by character, spaces left out."""
    import jiwer

    output = jiwer.process_characters([unspaced(reference)], [unspaced(hypothesis)])
    length = output.hits + output.substitutions + output.deletions
    return WordErrors(output.substitutions, output.insertions, output.deletions, length)


def unspaced(text: str) -> str:
    """`text` without its spaces."""
    return "".join(text.split())


def total(counts: list[WordErrors]) -> WordErrors:
    """The counts of many utterances added up."""
    return WordErrors(
        sum(c.substitutions for c in counts),
        sum(c.insertions for c in counts),
        sum(c.deletions for c in counts),
        sum(c.words for c in counts),
    )
