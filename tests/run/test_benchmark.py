"""The decode stage around an engine that only counts: order, repeats, warm-up, errors, records."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.checkpoints.folders import write_folder
from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.disk.lock import only_one
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import EngineLost, LeftOutError, UserError
from whisper_speedup.params.profile import GenerationParams, Profile
from whisper_speedup.params.sources import Folder, Local
from whisper_speedup.run import benchmark
from whisper_speedup.run.decoding import NO_OUTPUT

BUNDLED = Path(__file__).parents[2] / "profiles" / "bundled.yaml"


class Counting:
    """Gives another hypothesis at each call and notes what it was asked for."""

    name = "counting"
    dtype = "float32"

    def __init__(self, fails_at: int | None = None, fails_with: BaseException | None = None) -> None:
        self.settings: dict[str, Any] = {"precision": "float32"}
        self.prompt: list[int | None] = [2]
        self.calls: list[str] = []
        self.features: list[torch.Tensor] = []
        self.fails_at = fails_at
        self.fails_with = fails_with or UserError("this utterance is one too many.")

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        self.calls.append(f"load {model_dir} {generation.num_beams} {device.type}")

    def warm_up(self, features: torch.Tensor) -> None:
        self.calls.append("warm_up")

    def generate(self, features: torch.Tensor) -> Generation:
        self.calls.append("generate")
        self.features.append(features)
        number = len(self.features)
        if number == self.fails_at:
            raise self.fails_with
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
    data = Folder(source="folder", path="mine")
    manifest.prepare(data, Path("build/p/data"))
    write_folder(Path("weights"))
    write_json(Path("build/p/model.json"), prepare(Local(source="local", path="weights")))
    content = yaml.safe_load(BUNDLED.read_text())
    content["measure"] = {"device": "cpu", "threads": 1, "warmup": 5, "repeats": 3}
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
    assert list(row) == ["id", "tokens", "text", "raw_text", "score", "seconds", "device_seconds", "truncated", "error"]
    assert "b.wav" in row.pop("error")
    assert row == {"id": "b", **NO_OUTPUT}


def test_an_engines_refusal_of_one_utterance_loses_no_other(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = decode(profile, Counting(fails_at=4), monkeypatch)
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert rows[2] == {"id": "c", **NO_OUTPUT, "error": "this utterance is one too many."}


def test_an_engine_that_is_lost_ends_the_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(Counting):
        def generate(self, features: torch.Tensor) -> Generation:
            raise EngineLost("its process ended.")

    with pytest.raises(UserError, match=r"its process ended; 0 of \d+ utterances are kept"):
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
    assert set(run["conditions"]) == {"before", "after", "during"}
    assert run["conditions"]["during"]["samples"] >= 2
    assert run["energy"] is None
    assert min(run["load_s"], run["warmup_s"], run["decode_s"]) >= 0


def test_nothing_is_written_when_the_engine_cannot_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Counting):
        def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
            raise UserError("not here.")

    with pytest.raises(UserError, match="not here"):
        decode(profile, Refusing(), monkeypatch)
    assert not Path("build/p/runs").exists()
    assert not Path("build/p/partial").exists()


PARTIAL = Path("build/p/partial/counting.jsonl")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "the GPU's memory is full (2.00 GiB",
        ),
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered\n"),
            "the GPU stopped working (CUDA error: dev",
        ),
        (EngineLost("the worker is gone."), "the worker is gone"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failing_gpu_ends_the_run_and_its_rows_are_kept(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    with pytest.raises(UserError) as ended:
        decode(profile, Counting(fails_at=5, fails_with=error), monkeypatch)
    assert str(ended.value).startswith(sentence)
    assert str(ended.value).endswith(
        f"; 2 of 4 utterances are kept in {PARTIAL}, and running again goes on from there."
    )
    header, session, *rows = read_jsonl(PARTIAL)
    assert set(session["session"]) == {"started", "conditions"}
    assert [(row["id"], row["tokens"], row["error"] is None) for row in rows] == [("a", [61], True), ("b", None, False)]
    assert list(rows[0]) == [
        "id",
        "tokens",
        "text",
        "raw_text",
        "score",
        "seconds",
        "device_seconds",
        "truncated",
        "error",
    ]
    assert header["total"] == 4
    assert not Path("build/p/runs").exists()


def test_the_header_says_what_the_rows_depend_on(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt, match=f"0 of 4 utterances are kept in {PARTIAL}"):
        decode(profile, Counting(fails_at=1, fails_with=KeyboardInterrupt()), monkeypatch)
    kept = read_jsonl(PARTIAL)[0]["key"]
    decode(profile, Counting(), monkeypatch)
    assert not PARTIAL.parent.exists()
    run = read_json(Path("build/p/runs/counting/run.json"))
    same = (
        "engine",
        "settings",
        "prompt",
        "device",
        "dtype",
        "threads",
        "environment",
        "data_sha256",
        "weights_sha256",
        "model_sha256",
        "source_sha256",
    )
    assert {name: kept.pop(name) for name in same} == {name: run[name] for name in same}
    assert kept == {"generation": profile.generation.model_dump(), "repeats": 3, "warmup": 5, "features": "cpu"}


def once(profile: Profile) -> Profile:
    return profile.model_copy(update={"measure": profile.measure.model_copy(update={"warmup": 2, "repeats": 1})})


class Deaf(Counting):
    """Tokens that depend on the clip alone, so that a run's rows are the same however often it was interrupted."""

    def generate(self, features: torch.Tensor) -> Generation:
        super().generate(features)
        heard = int(features.abs().sum().item() * 1000) % 200
        return Generation(tokens=[heard], score=-heard / 7, truncated=False)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("stopped_at", [1, 2, 5, 9])
def test_a_run_goes_on_where_it_ended(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stopped_at: int
) -> None:
    expected = decode(profile, Deaf(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        decode(profile, Deaf(stopped_at, KeyboardInterrupt()), monkeypatch)
    kept = {row["id"]: row for row in read_jsonl(PARTIAL) if row.get("error", 0) is None}
    assert len(kept) == (stopped_at - 1) // 3
    engine = Deaf()
    rows = decode(profile, engine, monkeypatch)
    assert without_times(rows) == without_times(expected)
    assert {name: row for row in rows if (name := row["id"]) in kept} == kept  # with the seconds of the first process
    assert len(engine.features) == 3 * (3 - len(kept))
    assert engine.calls.count("warm_up") == 5
    resumed = read_json(Path("build/p/runs/counting/run.json"))["resumed_from"]
    assert [session["rows"] for session in resumed or []] == ([len(kept)] if kept else [])
    assert (f"going on: {len(kept)} of 4 utterances are kept in {PARTIAL}" in capsys.readouterr().err) == bool(kept)
    assert not PARTIAL.parent.exists()


def test_a_run_that_was_interrupted_often_counts_each_process(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            decode(once(profile), Deaf(2, KeyboardInterrupt()), monkeypatch)
    rows = decode(once(profile), Deaf(), monkeypatch)
    run = read_json(Path("build/p/runs/counting/run.json"))
    assert [session["rows"] for session in run["resumed_from"]] == [1, 1]
    assert all(set(session) == {"rows", "started", "conditions"} for session in run["resumed_from"])
    assert [row["error"] is None for row in rows] == [True, False, True, True]


@pytest.mark.parametrize("what", ["settings", "data", "source", "generation", "repeats"])
def test_rows_of_other_inputs_are_never_continued(profile: Profile, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        decode(profile, Deaf(5, KeyboardInterrupt()), monkeypatch)
    engine = Deaf()
    if what == "settings":
        engine.settings = {"precision": "half"}
    elif what == "data":
        manifest.prepare(Folder(source="folder", path="mine", limit=3), Path("build/p/data"))
    elif what == "source":
        monkeypatch.setattr(benchmark, "source_sha256", lambda stage: "another")
    elif what == "generation":
        profile = profile.model_copy(update={"generation": profile.generation.model_copy(update={"num_beams": 4})})
    else:
        profile = profile.model_copy(update={"measure": profile.measure.model_copy(update={"repeats": 4})})
    decode(profile, engine, monkeypatch)
    clips = 2 if what == "data" else 3
    assert len(engine.features) == clips * profile.measure.repeats
    assert read_json(Path("build/p/runs/counting/run.json"))["resumed_from"] is None
    assert PARTIAL.with_name("counting.aside.jsonl").exists()


def test_a_clip_that_was_mended_is_decoded_again(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = manifest.read(Path("build/p/data/manifest.jsonl"))[0].audio
    assert audio is not None
    clip = Path("build/p/data", audio)
    content = clip.read_bytes()
    clip.write_bytes(b"lost")
    with pytest.raises(KeyboardInterrupt):
        decode(profile, Deaf(4, KeyboardInterrupt()), monkeypatch)
    assert [row["error"] is None for row in read_jsonl(PARTIAL)[2:]] == [False, False, True]
    clip.write_bytes(content)
    rows = decode(profile, Deaf(), monkeypatch)
    assert [row["error"] is None for row in rows] == [True, False, True, True]


def test_all_rows_kept_and_no_result_written(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk became full, or the process ended, between the last row and the results."""
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "write_json", full_disk)
        with pytest.raises(UserError, match=r"the disk is full .*; 4 of 4 utterances"):
            decode(profile, Deaf(), patch)
    engine = Deaf()
    rows = decode(profile, engine, monkeypatch)
    assert engine.features == []
    assert len(rows) == 4


def full_disk(path: Path, value: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_two_runs_at_once(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_one(Path("build/p/.decode-counting.lock"), "decoding"):
        engine = Deaf()
        with pytest.raises(UserError, match=rf"^another process \({os.getpid()}\) is decoding p with counting already"):
            decode(profile, engine, monkeypatch)
        assert engine.calls == []
    decode(profile, Deaf(), monkeypatch)


def test_an_engine_that_leaves_itself_out_has_a_run_that_says_why(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Elsewhere(Counting):
        def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
            raise LeftOutError("counting is left out, because it needs fingers.")

    monkeypatch.setattr(benchmark, "create", lambda name, measure: Elsewhere())
    run = benchmark.decode(profile, "p", "counting")
    assert read_jsonl(run / "results.jsonl") == []
    about = read_json(run / "run.json")
    assert about["left_out"] == "counting is left out, because it needs fingers."
    assert (about["engine"], about["profile"]) == ("counting", "p")
    assert capsys.readouterr().err.endswith("counting is left out, because it needs fingers.\n")
