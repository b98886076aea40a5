"""What a person can type, checked: a section of a YAML file knows its keys, and an error is one sentence.

Unknown keys are refused. Each error names the file, the field and what it takes.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from whisper_speedup.errors import UserError, detail, plain, shown


class Section(BaseModel):
    """Knows its keys, and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def read_section(kind: type[Model], path: Path) -> Model:
    """The whole file as `kind`. Raises UserError, one sentence."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run from the repository's root, or restore it with git.") from None
    except OSError:
        raise
    except Exception as error:  # besides YAMLError, PyYAML lets out what int() and date() raise, and RecursionError
        raise UserError(f"{path} is not valid YAML ({detail(error)}): correct it.") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first problem in plain words, and how many more there are."""
    problems: list[Any] = error.errors()
    first = problems[0]
    # A discriminated union adds the chosen tag to the location; a reader knows only the keys of the file.
    tags = {"samples", "librispeech", "folder", "bundled", "hub", "local", "synthetic"}
    keys = [str(key) for key in first["loc"]]
    # ... and a choice of types adds the type's name, such as bool.
    keys = [
        key for i, key in enumerate(keys) if not (i == 1 and key in tags) and key not in {"bool", "constrained-str"}
    ]
    # A key can be any text, line breaks included.
    place = ".".join(plain(key) for key in keys) or "the file"
    if first["type"] == "extra_forbidden":
        what = f"unknown key {place}: remove it or correct its spelling"
    elif first["type"] == "missing":
        what = f"{place} is missing: add it"
    elif first["type"] == "union_tag_invalid":
        what = f"{place}.source is {shown(first['ctx']['tag'])}: choose one of {first['ctx']['expected_tags']}"
    elif first["type"] == "union_tag_not_found":
        what = f"{place}.source is missing: add it"
    else:
        message = first["msg"].removeprefix("Value error, ")  # one of our own
        message = message[0].lower() + message[1:]
        what = f"{place} is {shown(first['input'])}, but {message}: correct it"
    more = f" ({len(problems) - 1} more problems in this file)" if len(problems) > 1 else ""
    return what + more + "."
