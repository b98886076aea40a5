"""The engines by name: the entry-point group `whisper_speedup.engines`, ours as those of other packages.

An engine's file has its settings, too. It is imported when they are asked for, which brings torch: not for its name.
"""

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, RootModel, ValidationError

from whisper_speedup.errors import UserError, detail

GROUP = "whisper_speedup.engines"
BASELINE = "huggingface"
RUNG = "ladder."  # what an engine's name begins with when it is a rung: ladder.NAME is measure.ladder.NAME


@cache
def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise UserError(f"{_package(other)} and {_package(entry)} both bring an engine {entry.name}: remove one.")
    if BASELINE not in found:
        raise UserError("this Python's whisper-speedup has no engines, so it is an older one: run make setup.")
    return found


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module


def section_of(engine: str) -> str:
    """The key under `measure` of an engine's settings."""
    return "baseline" if engine == BASELINE else engine.partition(".")[0]


def sections() -> dict[str, str]:
    """What has settings under `measure`: key to name, the baseline first."""
    return {section_of(name): name for name in sorted(_installed(), key=lambda name: (name != BASELINE, name))}


def engine_names() -> list[str]:
    """The engines that params.yaml may name, but for the ladder's rungs."""
    return sorted(_installed().keys() - {BASELINE, "ladder"})


def _entry(engine: str) -> EntryPoint:
    found = _installed().get("ladder" if engine.startswith(RUNG) else engine)
    if found is None:
        known = ", ".join(engine_names())
        raise UserError(f"there is no engine {engine!r}: params.yaml takes {known}, and {BASELINE} always runs.")
    return found


def foreign_package(engine: str) -> str | None:
    """Name and version of the package that brings the engine; None for ours."""
    entry = _entry(engine)
    return None if entry.module.startswith("whisper_speedup.") else _package(entry)


def engine_class(engine: str) -> type[Any]:
    """The engine's class, its file imported. Raises UserError where there is none, or none that can be imported."""
    entry = _entry(engine)
    try:
        return entry.load()
    except Exception as error:
        raise UserError(
            f"engine {entry.name} of {_package(entry)} cannot be imported ({detail(error)}): install what it needs, or"
            " remove that package."
        ) from error


@cache
def settings_class(engine: str) -> type[BaseModel]:
    """The model of the engine's settings. Raises UserError for one that lets unknown keys pass or lacks a default."""
    found: type[BaseModel] = getattr(engine_class(engine), "Params", BaseModel)
    try:
        strict = issubclass(found, RootModel) or found.model_config.get("extra") == "forbid"
        found()
    except (TypeError, ValidationError):
        strict = False
    if not strict:
        raise UserError(
            f"engine {engine} of {_package(_entry(engine))} has no pydantic model with a default for each setting and"
            ' extra="forbid" as its Params: write one.'
        )
    return found


def _known_engine(name: str) -> str:
    known = engine_names()
    if name not in known and not re.fullmatch(re.escape(RUNG) + "[a-z0-9_]+", name):
        raise ValueError(f"engines are {', '.join(known)} and {RUNG}NAME for a rung of the profile's measure.ladder")
    return name


Engines = Annotated[list[Annotated[str, AfterValidator(_known_engine)]], Field(min_length=1)]
