"""The error rates that a page shows: of words, or of characters first where a language has no spaces between words."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Rate:
    """`key` is what the small files call it, `one` what it counts."""

    key: str
    short: str
    name: str
    one: str

    @property
    def many(self) -> str:
        return f"{self.one}s"


WORDS = Rate("wer", "WER", "Word error rate", "word")
CHARACTERS = Rate("cer", "CER", "Character error rate", "character")


def rates(context: Row) -> list[Rate]:
    """Those of this run, the one to judge by first. Results from before there was another have words alone."""
    return [CHARACTERS, WORDS] if writing(context)["unit"] == "character" else [WORDS]


def writing(context: Row) -> Row:
    """The language of the texts, the normaliser and the unit of errors; of older results, which knew English alone."""
    found: Row = context.get("writing") or {"language": "en", "normaliser": "english", "unit": "word"}
    return found
