"""The section on Kernl's mask: there when the engine ran, with that run's numbers, and absent otherwise."""

import copy
from pathlib import Path

import pytest
from generated_runs import GeneratedRuns, generate, params, profile
from html_check import Page

from whisper_speedup.compare import compare
from whisper_speedup.params.profile import Params
from whisper_speedup.report import render


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(made: GeneratedRuns, engine: str, differing: list[int]) -> None:
    """Another engine that repeats the baseline, but for the last word of some utterances."""
    made.results[engine] = copy.deepcopy(made.results["huggingface"])
    made.about[engine] = copy.deepcopy(made.about["fused"]) | {"engine": engine}
    for number in differing:
        words = made.results[engine][number]["text"].split()
        made.say(engine, number, " ".join([*words[:-1], "clover"]))


def page(made: GeneratedRuns, here: Path, engines: list[str]) -> Page:
    made.write(here)
    compare(profile(), "example", Params(profile="example", engines=engines))
    return Page(render("example").read_text(encoding="utf-8"))


def test_the_mask_beside_rounding(here: Path) -> None:
    made = generate(13, differing=1)  # fused: the first
    add(made, "kernl_phantom", [0, 3, 4])
    read = page(made, here, ["kernl_phantom", "fused"])
    for words in (
        "With the mask: 3 of 13 outputs differ (23.08%).",
        "With the right mask, Fused: 1 of 13 outputs differs (7.69%).",
        "Of the 3 outputs that the mask's run changed, 1 changed in Fused.",
        "Kernl's mask the mask, and rounding 3 of 13 3 of 13",
        "without the mask",
        "docs/kernl-accuracy.md",
    ):
        assert words in read.text
    assert "mask" in read.all("id")
    assert "#mask" in read.all("href")


def test_genuine_kernl_beside_its_mask(here: Path) -> None:
    made = generate(6)
    add(made, "kernl_phantom", [1, 2])
    add(made, "kernl_upstream", [2, 3, 4])
    read = page(made, here, ["kernl_phantom", "kernl_upstream"])
    assert "Genuine Kernl changed 3 outputs; the mask alone changed 1 of them." in read.text
    assert "What rounding alone changes is not known from this run" in read.text


def test_a_mask_that_changed_nothing_and_random_weights(here: Path) -> None:
    made = generate(4)
    made.model["trained"] = False
    add(made, "kernl_phantom", [])
    read = page(made, here, ["kernl_phantom", "fused"])
    assert "With the mask: the output is the same for all 4 utterances, token for token." in read.text
    assert "Of the" not in read.text
    assert "Word error rate: " not in read.text
    assert "The weights are random, so this says nothing of the mask on speech." in read.text


def test_nothing_without_the_engine(here: Path) -> None:
    made = generate(4)
    made.write(here)
    compare(profile(), "example", params())
    read = Page(render("example").read_text(encoding="utf-8"))
    assert "mask" not in read.all("id")
    assert "#mask" not in read.all("href")
