"""Each reader of foreign bytes: its seeds, what once was a finding, some other inputs. `make fuzz` makes new ones."""

from pathlib import Path

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


@pytest.mark.parametrize("name", EVERY)
def test_other_inputs(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    slow = name.startswith("weights_") or name == "model_config"

    @settings(max_examples=15 if slow else 60, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def read(data: st.DataObject) -> None:
        attempt(name, data.draw(inputs(name)), tmp_path_factory.mktemp("fuzz"))

    read()
