"""Engines of other packages: found by their entry points, and refused with a sentence for what they lack."""

import importlib.metadata
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from whisper_speedup.engines.create import create
from whisper_speedup.errors import UserError
from whisper_speedup.params import engines
from whisper_speedup.params.engines import BASELINE, engine_names, section_of, sections
from whisper_speedup.params.profile import MeasureParams
from whisper_speedup.params.section import Section


class Settings(Section):
    depth: int = 3


class Tiny:
    name = "tiny"
    Params: Any = Settings

    def __init__(self, params: Settings) -> None:
        self.settings = params.model_dump()


class Loose(Tiny):
    class Params(BaseModel):
        depth: int = 3


class Undecided(Tiny):
    class Params(Section):
        depth: int


class Bare(Tiny):
    Params = None


def entry(name: str, what: str) -> SimpleNamespace:
    """An entry point of a package that is not on the disk."""
    dist = SimpleNamespace(name="tiny-engine", version="1.0")
    return SimpleNamespace(name=name, value=what, module=__name__, dist=dist, load=lambda: globals()[what])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The entry points that there are; a test adds to them."""
    found = list(importlib.metadata.entry_points(group=engines.GROUP))
    monkeypatch.setattr(engines, "entry_points", lambda group: found)
    for cached in (engines._installed, engines.settings_class):
        cached.cache_clear()
    yield found
    for cached in (engines._installed, engines.settings_class):
        cached.cache_clear()


def test_each_of_ours_has_its_section_and_is_made() -> None:
    assert {"fused", "fused_int8", "fused_fp8", "fused_batch", "kernl", "kernl_upstream", "kernl_phantom", "compiled",
            "ctranslate2", "ctranslate2_int8"} <= set(engine_names())  # fmt: skip
    assert next(iter(sections().items())) == ("baseline", BASELINE)
    for name in (*engine_names(), BASELINE):
        engine = create(name, MeasureParams())
        assert engine.name == name
        assert "package" not in engine.settings
        assert section_of(name) in sections()


def test_another_package_s_engine_is_one_like_ours(installed: list[Any]) -> None:
    installed.append(entry("tiny", "Tiny"))
    assert "tiny" in engine_names()
    assert create("tiny", MeasureParams()).settings == {"depth": 3, "package": "tiny-engine 1.0"}
    measure = MeasureParams.model_validate({"tiny": {"depth": 5}})
    assert create("tiny", measure).settings["depth"] == measure.model_dump()["tiny"]["depth"] == 5
    for content, where in (({"depth": "deep"}, ("tiny", "depth")), ({"width": 1}, ("tiny", "width"))):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            MeasureParams.model_validate({"tiny": content})
        assert refused.value.errors()[0]["loc"] == where


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("tiny", "Gone")], r"engine tiny of tiny-engine 1\.0 cannot be imported \(.*Gone.*\): install what it needs"),
        ([("tiny", "Loose")], 'has no pydantic model with .*extra="forbid"'),
        ([("tiny", "Undecided")], "has no pydantic model with a default for each setting"),
        ([("tiny", "Bare")], "has no pydantic model"),
        ([("fused", "Tiny")], "both bring an engine fused: remove one"),
        ([("tiny", "Tiny"), ("tiny", "Loose")], "both bring an engine tiny"),
    ],
)
def test_what_an_engine_lacks_is_one_sentence(installed: list[Any], entries: list[tuple[str, str]], match: str) -> None:
    installed.extend(entry(*one) for one in entries)
    with pytest.raises(UserError, match=match) as refused:
        create("tiny", MeasureParams())
    assert "\n" not in str(refused.value)


def test_an_installation_from_before_says_what_to_do(installed: list[Any]) -> None:
    installed.clear()
    with pytest.raises(UserError, match="has no engines, so it is an older one: run make setup"):
        engine_names()
