"""The language that a run's texts are in, and what follows from it: how they are normalised, and in what errors count.

The baseline's recorded prompt says what the decoder was asked for, whatever the profile left open.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisper_speedup.compare.runs import Inputs
from whisper_speedup.compare.wer import Normaliser, any_language, load_normaliser
from whisper_speedup.disk.files import read_json
from whisper_speedup.disk.records import Facts
from whisper_speedup.params.profile import GenerationParams

Unit = Literal["word", "character"]
# Chinese, Cantonese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan are written without spaces between words.
UNSPACED = {"zh", "yue", "ja", "th", "lo", "km", "my", "bo"}
UNSPACED_SCRIPTS = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")
ENGLISH_ONLY_START = 50257  # start-of-transcript of the English-only vocabulary; it is 50258 in the multilingual ones
DETECTED = (
    "The language was detected for each utterance and not recorded, so texts are compared after the normalisation for"
    " any language, without English spellings and numbers: set generation.language to the language spoken."
)


@dataclass(frozen=True)
class Writing:
    """`language`: Whisper's code, None where it was detected for each utterance. `unit`: what the error rate counts.

    `english` is transformers' English normaliser with the checkpoint's spellings, or None: then `normalise` is
    transformers' other one.
    """

    language: str | None
    unit: Unit
    normalise: Normaliser
    english: bool

    def about(self) -> Facts:
        """For context.json."""
        return {"language": self.language, "unit": self.unit, "normaliser": "english" if self.english else "basic"}


def writing(inputs: Inputs, generation: GenerationParams, judged: bool, notes: list[str]) -> Writing:
    """How the runs' texts are written. `judged`: whether any text is compared with a reference.

    What a reader must know of it goes to `notes`. Raises UserError where English texts are judged and the model's
    folder is gone.
    """
    model_dir = Path(inputs.model.path)
    language = language_of(model_dir, inputs.runs[0].about.prompt, generation)
    if language == "en":
        return _english(model_dir, generation, judged, notes)
    if language is None:
        unit: Unit = "character" if mostly_unspaced(_texts(inputs)) else "word"
        if inputs.model.trained:
            notes.append(DETECTED)
    else:
        unit = "character" if language in UNSPACED else "word"
    return Writing(language, unit, any_language(), english=False)


def language_of(model_dir: Path, prompt: list[int | None], generation: GenerationParams) -> str | None:
    """The language of the texts that `prompt` asks for; `en` of a translation. None: whichever was detected.

    `prompt` is as run.json has it, None in it where the language is detected.
    """
    path = model_dir / "generation_config.json"
    config = read_json(path) if path.is_file() else {}
    languages = {token: name.strip("<|>") for name, token in (config.get("lang_to_id") or {}).items()}
    named = [languages[token] for token in prompt if token in languages]
    if (config.get("task_to_id") or {}).get("translate", -1) in prompt:
        return "en"
    if named:
        return named[0]
    if None not in prompt and config.get("is_multilingual") is False:
        return "en"
    if generation.task == "translate":
        return "en"
    # A folder without that file, or one that names no languages.
    if generation.language is None and prompt[:1] == [ENGLISH_ONLY_START]:
        return "en"
    return generation.language


def mostly_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters of `texts` are of scripts that put no spaces between words."""
    letters = unspaced = 0
    for character in "".join(texts):
        if character.isalpha():
            letters += 1
            unspaced += unicodedata.name(character, "").startswith(UNSPACED_SCRIPTS)
    return 2 * unspaced > letters


def _english(model_dir: Path, generation: GenerationParams, judged: bool, notes: list[str]) -> Writing:
    normalise: Normaliser = str
    if judged:
        normalise, has_table = load_normaliser(model_dir)
        if not has_table:
            notes.append(
                "The checkpoint has no normalizer.json, so British and American spellings count as word errors."
            )
    if generation.language not in (None, "en") and generation.task != "translate":
        notes.append(f"The checkpoint's language is English, so generation.language {generation.language} did nothing.")
    return Writing("en", "word", normalise, english=True)


def _texts(inputs: Inputs) -> Iterable[str]:
    """What was said, by the transcripts and, where there are none, by the baseline."""
    references = [row.reference for row in inputs.manifest if row.reference is not None]
    return references or [row.raw_text or row.text or "" for row in inputs.runs[0].results if row.error is None]
