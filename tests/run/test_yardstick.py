"""Variants of the baseline on a real, tiny model: what each changes, what is kept, what is left out."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from generated_runs import profile as generated_profile

from tests.compare import real_folder
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.errors import UserError
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import yardstick
from whisper_speedup.run.source import PACKAGE

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ROWS = [([60], [60]), ([61], [61])]  # of engines that these tests do not look at


def profile(*variants: str, **measure: Any) -> Profile:
    content = generated_profile().model_dump()
    content["generation"] |= {"num_beams": 2, "max_length": 6}
    content["measure"] |= {"device": "cpu", "threads": 1, "yardstick": list(variants) or None, **measure}
    return Profile.model_validate(content)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile's folder with data and a model, in the working directory."""
    monkeypatch.chdir(tmp_path)
    real_folder.write(tmp_path, monkeypatch, ROWS)
    return tmp_path


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The variants that were decoded, each in this process instead of one of its own."""
    ran: list[str] = []

    def here(name: str, variant: str) -> None:
        ran.append(variant)
        threads = torch.get_num_threads()
        yardstick.run_one(profile(variant), name, variant)
        torch.set_num_threads(threads)

    monkeypatch.setattr(yardstick, "_in_a_process", here)
    return ran


@pytest.mark.parametrize(
    ("variant", "section", "expected"),
    [
        ("again", "baseline", {}),
        ("eager", "baseline", {"attention": "eager"}),
        ("bfloat16", "baseline", {"precision": "bfloat16"}),
        ("threads_3", "measure", {"threads": 3}),
    ],
)
def test_a_variant_changes_one_thing(variant: str, section: str, expected: dict[str, Any]) -> None:
    asked = profile(warmup=4, repeats=9)
    before, after = asked.measure.model_dump(), yardstick.changed(asked, variant).measure.model_dump()
    baseline = before.pop("baseline") | (expected if section == "baseline" else {})
    assert after.pop("baseline") == baseline
    assert after == before | {"warmup": 1, "repeats": 1} | (expected if section == "measure" else {})


@pytest.mark.parametrize(
    ("variant", "device", "changes", "reason"),
    [
        ("again", CPU, {}, None),
        ("eager", CPU, {}, None),
        ("sdpa", CPU, {}, "own attention"),
        ("half", CPU, {}, None),
        ("float64", CPU, {}, None),
        ("float32", CPU, {}, "own precision"),
        ("tf32", CPU, {}, "TF32 is a GPU's"),
        ("threads_1", CPU, {}, "itself has 1"),
        ("threads_2", CPU, {}, None),
        ("threads_12", CPU, {"threads": 12}, "itself has 12"),
        ("threads_2", GPU, {}, "does not depend on the number of threads"),
        ("autocast", GPU, {}, "own precision"),
        ("float32", GPU, {}, None),
    ],
)
def test_what_says_nothing_is_left_out(
    variant: str, device: torch.device, changes: dict[str, Any], reason: str | None
) -> None:
    found = yardstick.why_not(variant, profile(**changes).measure, device)
    assert found is None if reason is None else reason in str(found) and str(found).endswith(".")


@pytest.mark.parametrize(("capability", "left_out"), [((7, 5), True), ((8, 0), False), ((9, 0), False)])
def test_an_older_gpu_has_no_tf32(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], left_out: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for variant in ("tf32", "bfloat16"):
        assert (yardstick.why_not(variant, profile().measure, GPU) is not None) == left_out


def test_each_variant_is_decoded_for_its_texts(here: Path, processes: list[str]) -> None:
    folder = yardstick.run(profile("again", "half", "tf32"), "example")
    assert processes == ["again", "half"]
    about = read_json(folder / "variants.json")
    assert about == {"decoded": ["again", "half"], "left_out": {"tf32": "TF32 is a GPU's."}}
    runs = {name: read_json(folder / name / "run.json") for name in processes}
    assert [run["dtype"] for run in runs.values()] == ["float32", "float16"]
    assert {run["engine"] for run in runs.values()} == {"huggingface"}
    assert not [run for run in runs.values() if "breakdown" in run or "step_floor" in run]
    rows = read_jsonl(folder / "again" / "results.jsonl")
    assert [row["id"] for row in rows] == ["0", "1"]
    assert all(row["tokens"] and row["error"] is None for row in rows)
    assert not Path("build/example/partial").exists()


def test_what_still_holds_is_kept(here: Path, processes: list[str]) -> None:
    folder = yardstick.run(profile("again"), "example")
    before = (folder / "again" / "run.json").read_bytes()
    yardstick.run(profile("again", "eager"), "example")
    assert processes == ["again", "eager"]
    assert (folder / "again" / "run.json").read_bytes() == before
    yardstick.run(profile("eager"), "example")
    assert processes == ["again", "eager"]
    assert read_json(folder / "variants.json")["decoded"] == ["eager"]


@pytest.mark.parametrize("what", ["generation", "machine", "data", "source", "unfinished"])
def test_what_no_longer_holds_is_decoded_again(
    here: Path, processes: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    asked = profile("again")
    folder = yardstick.run(asked, "example")
    made_for = folder / "again" / "made_for.json"
    if what == "generation":
        asked = asked.model_copy(update={"generation": asked.generation.model_copy(update={"num_beams": 1})})
    elif what == "machine":
        monkeypatch.setattr(yardstick, "fingerprint", lambda: fingerprint() | {"cpu": "another"})
    elif what == "data":
        with Path("build/example/data/manifest.jsonl").open("a") as file:
            file.write("\n")
    elif what == "source":
        content = read_json(made_for)
        write_json(made_for, content | {"source_sha256": "0" * 64})
    else:
        made_for.unlink()
    yardstick.run(asked, "example")
    assert processes == ["again", "again"]


def test_no_variant_is_no_work(here: Path, processes: list[str]) -> None:
    folder = yardstick.run(profile(), "example")
    assert processes == []
    assert read_json(folder / "variants.json") == {"decoded": [], "left_out": {}}


def test_a_variant_that_fails_ends_the_stage(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(UserError, match=r"variant again did not come to its end \(exit code 2, the reason is above\)"):
        yardstick.run(profile("again"), "example")
    assert "error: there is no profile 'example'" in capfd.readouterr().err
    assert not Path("build/example/yardstick/variants.json").exists()
