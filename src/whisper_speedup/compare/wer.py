"""Word error rate: jiwer's alignment over text normalised as Whisper's authors do for English."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from whisper_speedup.errors import UserError
from whisper_speedup.files import read_json

Normaliser = Callable[[str], str]


@dataclass(frozen=True)
class WordErrors:
    """What separates a hypothesis from its reference, in words; `words` is the length of the reference."""

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


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Align two normalised texts. An empty reference is allowed: every word of the hypothesis is then an insertion."""
    import jiwer  # the judge of this package serves scripts on machines that have no jiwer

    output = jiwer.process_words([reference], [hypothesis])
    words = output.hits + output.substitutions + output.deletions
    return WordErrors(output.substitutions, output.insertions, output.deletions, words)


def total(counts: list[WordErrors]) -> WordErrors:
    """The counts of many utterances added up."""
    return WordErrors(
        sum(c.substitutions for c in counts),
        sum(c.insertions for c in counts),
        sum(c.deletions for c in counts),
        sum(c.words for c in counts),
    )
