"""The decode stage around an engine that only counts: order, repeats, warm-up, errors, records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.checkpoints.folders import write_folder
from whisper_speedup import benchmark
from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.files import read_json, read_jsonl, write_json
from whisper_speedup.params import Folder, GenerationParams, Local, Profile

BUNDLED = Path(__file__).parents[1] / "profiles" / "bundled.yaml"


class Counting:
    """Gives another hypothesis at each call and notes what it was asked for."""

    name = "counting"
    dtype = "float32"

    def __init__(self, fails_at: int | None = None) -> None:
        self.settings: dict[str, Any] = {"precision": "float32"}
        self.prompt: list[int | None] = [2]
        self.calls: list[str] = []
        self.features: list[torch.Tensor] = []
        self.fails_at = fails_at

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        self.calls.append(f"load {model_dir} {generation.num_beams} {device.type}")

    def warm_up(self, features: torch.Tensor) -> None:
        self.calls.append("warm_up")

    def generate(self, features: torch.Tensor) -> Generation:
        self.calls.append("generate")
        self.features.append(features)
        number = len(self.features)
        if number == self.fails_at:
            raise UserError("this utterance is one too many.")
        return Generation(tokens=[60 + number], score=-0.5, truncated=number == 1)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The data and model stages have run, on three tones and a broken file."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    for name, hertz in (("c", 300), ("a", 500), ("d", 700)):
        tone = 0.1 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)
        soundfile.write(f"mine/{name}.wav", tone, 16000)
    Path("mine/b.wav").write_bytes(b"RIFF")
    data = Folder(source="folder", path="mine", limit=None, variations=None)
    manifest.prepare(data, Path("build/p/data"))
    write_folder(Path("weights"))
    write_json(Path("build/p/model.json"), prepare(Local(source="local", path="weights")))
    content = yaml.safe_load(BUNDLED.read_text())
    content["measure"] |= {"device": "cpu", "threads": 1, "warmup": 5, "repeats": 3}
    return Profile.model_validate(content)


def decode(profile: Profile, engine: Counting, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(benchmark, "create", lambda name, measure: engine)
    folder = benchmark.decode(profile, "p", "counting")
    assert folder == Path("build/p/runs/counting")
    assert sorted(path.name for path in folder.iterdir()) == ["results.jsonl", "run.json"]
    return read_jsonl(folder / "results.jsonl")


def test_each_clip_is_decoded_as_often_as_the_profile_says(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    rows = decode(profile, engine, monkeypatch)
    assert engine.calls == ["load weights 5 cpu", *["warm_up"] * 5, *["generate"] * 9, "close"]
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    good = [row for row in rows if row["id"] != "b"]
    assert [row["tokens"] for row in good] == [[61], [64], [67]]  # the first of each clip's three
    assert [row["truncated"] for row in good] == [True, False, False]
    assert all(len(row["seconds"]) == 3 and min(row["seconds"]) > 0 for row in good)
    assert all(isinstance(row["text"], str) and row["error"] is None for row in good)


def test_features_are_the_clips_own(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    decode(profile, engine, monkeypatch)
    assert {tuple(features.shape) for features in engine.features} == {(1, 8, 3000)}
    assert all(features.dtype == torch.float32 for features in engine.features)
    first, again, _, other = engine.features[:4]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_unreadable_clip_carries_its_reason(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    row = decode(profile, Counting(), monkeypatch)[1]
    assert list(row) == ["id", "tokens", "text", "raw_text", "score", "seconds", "truncated", "error"]
    assert "b.wav" in row.pop("error")
    assert row == {"id": "b", **benchmark.NO_OUTPUT}


def test_an_engines_refusal_of_one_utterance_loses_no_other(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = decode(profile, Counting(fails_at=4), monkeypatch)
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert rows[2] == {"id": "c", **benchmark.NO_OUTPUT, "error": "this utterance is one too many."}


def test_an_engine_that_is_lost_ends_the_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(Counting):
        def generate(self, features: torch.Tensor) -> Generation:
            raise EngineLost("its process ended.")

    with pytest.raises(EngineLost, match="its process ended"):
        decode(profile, Lost(), monkeypatch)
    assert not Path("build/p/runs").exists()


def test_an_engine_elsewhere_says_its_own_seconds_memory_and_packages(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Outside(Counting):
        def generate(self, features: torch.Tensor) -> Generation:
            return replace(super().generate(features), seconds=1000.0 + len(self.features))

        def process(self) -> dict[str, Any]:
            return {"memory": {"max_reserved": 7}, "environment": {"torch": "2.1.2"}}

    rows = decode(profile, Outside(), monkeypatch)
    assert next(row["seconds"] for row in rows if row["error"] is None) == [1001, 1002, 1003]
    run = read_json(Path("build/p/runs/counting/run.json"))
    assert (run["memory"], run["environment"]) == ({"max_reserved": 7}, {"torch": "2.1.2"})


def test_a_clip_that_changed_since_carries_its_reason(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = manifest.read(Path("build/p/data/manifest.jsonl"))[3].audio
    assert audio is not None
    Path("build/p/data", audio).write_bytes(b"something else")
    once = profile.model_copy(update={"measure": profile.measure.model_copy(update={"warmup": 1})})
    rows = decode(once, Counting(), monkeypatch)
    assert "another SHA-256" in rows[3]["error"]
    assert rows[2]["error"] is None


def test_the_run_says_what_it_was(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(profile, Counting(), monkeypatch)
    run = read_json(Path("build/p/runs/counting/run.json"))
    assert (run["engine"], run["profile"], run["device"], run["dtype"], run["threads"], run["prompt"]) == (
        "counting", "p", "cpu", "float32", 1, [2],
    )  # fmt: skip
    assert (run["model"]["name"], run["model"]["trained"], run["model"]["source"]) == ("weights", True, "local")
    assert set(run["conditions"]) == {"before", "after"}
    assert min(run["load_s"], run["warmup_s"], run["decode_s"]) >= 0


def test_nothing_is_written_when_the_engine_cannot_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Counting):
        def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
            raise UserError("not here.")

    with pytest.raises(UserError, match="not here"):
        decode(profile, Refusing(), monkeypatch)
    assert not Path("build/p/runs").exists()
