"""Whisper's languages, as a person types them: by name or by code, in any case."""

import difflib


def language_code(typed: str) -> str:
    """Whisper's code of a language: `en` for English, EN, ` english ` and <|en|>.

    Raises ValueError, with the languages that are spelled nearly so, for one that Whisper does not know.
    """
    name = " ".join(typed.casefold().replace("<|", " ").replace("|>", " ").replace("_", "-").split())
    if name in {"en", "english"}:  # what most profiles say need not wait for seconds until transformers is imported
        return "en"
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    if name in LANGUAGES:
        return name
    if name in TO_LANGUAGE_CODE:
        return TO_LANGUAGE_CODE[name]
    near = difflib.get_close_matches(name, [*TO_LANGUAGE_CODE, *LANGUAGES], n=3, cutoff=0.7)
    region = name.split("-")[0]  # of a locale such as pt-BR
    near = [region, *near] if region in LANGUAGES else near
    known = f"perhaps {' or '.join(dict.fromkeys(near))}" if near else "give a name or code, such as Hindi or hi"
    raise ValueError(f"no language of Whisper is called so ({known})")
