"""What the models of our files share: keys are checked, values stay what they were, and unset keys stay out."""

from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.errors import UserError

Facts = dict[str, JsonValue]  # shown by name and not interpreted: an engine's settings, a machine's environment
Number = int | float  # written as it is: a whole number keeps no point
T = TypeVar("T", bound=BaseModel)


class Record(BaseModel):
    """A JSON object of one of our files."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def content(self) -> Facts:
        """For JSON: the keys in their order, without those that nobody set."""
        return self.model_dump(exclude_unset=True)

    def given(self) -> dict[str, object]:
        """The values of the keys that somebody set."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}

    def but(self, **changes: object) -> Self:
        """The same with other values, which are not checked again."""
        return self.model_copy(update=changes)


def checked(kind: type[T], content: object, path: Path, row: int | None = None) -> T:
    """`content`, of `path` or its `row`th row, as a record. Raises UserError naming the key."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "the row"
        where = path if row is None else f"{path}, row {row}"
        why = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(
            f"{where}: {place} is not what this version writes ({why}): delete the file and run dvc repro."
        ) from None


def read_records(kind: type[T], path: Path) -> list[T]:
    """A file of JSON lines. Raises UserError."""
    return [checked(kind, row, path, number) for number, row in enumerate(read_jsonl(path), 1)]


def read_record(kind: type[T], path: Path) -> T:
    """A whole JSON file. Raises UserError."""
    return checked(kind, read_json(path), path)
