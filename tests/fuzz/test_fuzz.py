"""Each reader of foreign bytes: its seeds, what once was a finding, some other inputs. `make fuzz` makes new ones."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, attempt, findings, inputs, seeds

EVERY = sorted(TARGETS)
REFUSED_SEEDS = {"model_json", "manifest_rows"}  # their weights and audio are not on this machine


@pytest.mark.parametrize("name", EVERY)
def test_seeds_are_read(name: str, tmp_path: Path) -> None:
    assert seeds(name)
    for number, data in enumerate(seeds(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        refusal = attempt(name, data, folder)
        assert (refusal is not None) == (name in REFUSED_SEEDS), refusal


@pytest.mark.parametrize("path", [path for name in EVERY for path in findings(name)], ids=lambda path: path.name)
def test_findings_stay_mended(path: Path, tmp_path: Path) -> None:
    attempt(path.parent.name, path.read_bytes(), tmp_path)


def test_the_same_inputs_are_drawn_whatever_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[bytes]:
        found = []

        @settings(suppress_health_check=list(HealthCheck))
        @given(inputs("profile"))
        def draw(data: bytes) -> None:
            found.append(data)

        draw()
        return found

    before = drawn()
    path = tmp_path / "of_ours.py"
    path.write_text("\n".join(f"x{n} = {n + 10**9}; y{n} = 'what {n}'" for n in range(500)))
    module = ModuleType("of_ours")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "of_ours", module)
    assert drawn() == before


@pytest.mark.parametrize("name", EVERY)
def test_other_inputs(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    slow = name.startswith("weights_") or name == "model_config"

    @settings(max_examples=15 if slow else 60, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def read(data: st.DataObject) -> None:
        attempt(name, data.draw(inputs(name)), tmp_path_factory.mktemp("fuzz"))

    read()
