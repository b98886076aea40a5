"""The bundled pipeline end to end, through the command line: real recordings, real weights, both engines."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from whisper_speedup.cli import main
from whisper_speedup.disk.files import read_json, read_jsonl

ROOT = Path(__file__).parents[2]
CLIPS = ["cards-001", "cards-003", "cards-004"]
STAGES = ("environment", "data", "model", "decode --engine huggingface", "decode --engine fused", "rounds", "compare",
          "report")  # fmt: skip
ALONE = {
    "total_s", "median_s", "p95_s", "rtfx", "token_s", "warmup_s", "peak_reserved_bytes", "process_peak_bytes", "wer",
    "truncated", "failed", "device_total_s", "energy_per_audio_hour_wh", "utterances_per_s", "wall_rtfx",
    "encoder_share", "workers",
}  # fmt: skip
PAIR = {
    "speedup", "speedup_low", "speedup_high", "speedup_rounds", "speedup_rounds_low", "speedup_rounds_high",
    "different", "different_tokens", "rounding_ties", "better", "worse", "not_judged",
}  # fmt: skip


ROUNDS = {"starts": 1, "count": 2, "clips": 2, "seed": 0}


def profile(rounds: dict[str, int] | None = None, **changes: Any) -> str:
    """profiles/bundled.yaml on a CPU, with a shorter search, and the given sections changed."""
    content = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text())
    content["generation"] = {"num_beams": 2, "max_length": 16}
    content["measure"] = {"device": "cpu", "threads": 1, "rounds": rounds}
    return yaml.safe_dump({**content, **changes}, sort_keys=False)


def run_all(name: str) -> None:
    for stage in STAGES:
        main([*stage.split(), "--profile", name])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which the profiles `bundled` and `broken` have run."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT / "samples", folder / "samples")
    (folder / "params.yaml").write_text("profile: bundled\nengines: [fused]\n")
    (folder / "profiles").mkdir()
    samples = {"source": "samples", "clips": CLIPS}
    (folder / "profiles" / "bundled.yaml").write_text(profile(ROUNDS, data=samples))
    mine = {"source": "folder", "path": "mine"}
    (folder / "profiles" / "broken.yaml").write_text(profile(data=mine))
    (folder / "mine").mkdir()
    shutil.copy(ROOT / "samples" / "cards-001.flac", folder / "mine" / "first.flac")
    (folder / "mine" / "first.txt").write_text("ten of clubs")
    (folder / "mine" / "middle.wav").write_bytes(b"RIFF is all there is")
    shutil.copy(ROOT / "samples" / "cards-003.flac", folder / "mine" / "second.flac")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_all("bundled")
        run_all("broken")
        yield folder


def results(workspace: Path, name: str, engine: str) -> list[dict[str, Any]]:
    return read_jsonl(workspace / "build" / name / "runs" / engine / "results.jsonl")


def test_the_stages_write_the_files_that_the_contracts_name(workspace: Path) -> None:
    found = {path.relative_to(workspace).as_posix() for path in (workspace / "build" / "bundled").rglob("*.json*")}
    assert found == {
        "build/bundled/environment.json", "build/bundled/model.json", "build/bundled/data/manifest.jsonl",
        "build/bundled/rounds/rounds.json", "build/bundled/rounds/rounds.jsonl",
        *(f"build/bundled/runs/{engine}/{name}" for engine in ("huggingface", "fused")
          for name in ("run.json", "results.jsonl")),
    }  # fmt: skip
    assert sorted(path.name for path in (workspace / "reports" / "bundled").iterdir()) == [
        "context.json", "differences.jsonl", "evidence.jsonl", "latency.jsonl", "metrics.json", "utterances.csv",
    ]  # fmt: skip
    assert not [path for path in workspace.rglob("*.tmp") if "models" not in path.parts]


@pytest.mark.parametrize("engine", ["huggingface", "fused"])
def test_result_rows_follow_the_contract(workspace: Path, engine: str) -> None:
    rows = results(workspace, "bundled", engine)
    assert [row["id"] for row in rows] == CLIPS
    for row in rows:
        assert list(row) == [
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
        assert row["error"] is None
        assert row["tokens"]
        assert len(row["seconds"]) == 1
        assert row["seconds"][0] > 0
    assert rows[1]["text"] == "7 of clubs"


@pytest.mark.parametrize("engine", ["huggingface", "fused"])
def test_run_json_follows_the_contract(workspace: Path, engine: str) -> None:
    run = read_json(workspace / "build" / "bundled" / "runs" / engine / "run.json")
    assert set(run) == {
        "engine", "settings", "model", "profile", "device", "device_name", "dtype", "threads", "load_s", "warmup_s",
        "decode_s", "resumed_from", "memory", "environment", "started", "conditions", "data_sha256", "weights_sha256",
        "prompt", "step_floor", "breakdown", "model_sha256", "source_sha256", "results_sha256", "energy",
        "throughput", "workers", "features",
    }  # fmt: skip
    assert (run["engine"], run["profile"], run["device"], run["dtype"], run["threads"]) == (
        engine, "bundled", "cpu", "float32", 1,
    )  # fmt: skip
    assert run["prompt"] == [50257, 50362]  # start of transcript, no timestamps: English only
    assert set(run["memory"]) == {"allocated", "reserved", "max_allocated", "max_reserved", "process_peak"}
    assert run["environment"] == read_json(workspace / "build" / "bundled" / "environment.json")


@pytest.mark.parametrize("name", ["bundled", "broken"])
def test_both_engines_give_the_same_tokens(workspace: Path, name: str) -> None:
    ours, theirs = results(workspace, name, "fused"), results(workspace, name, "huggingface")
    assert [row["tokens"] for row in ours] == [row["tokens"] for row in theirs]


def test_metrics_follow_the_contract(workspace: Path) -> None:
    metrics = read_json(workspace / "reports" / "bundled" / "metrics.json")
    assert set(metrics) == {
        "utterances", *(f"huggingface.{key}" for key in ALONE), *(f"fused.{key}" for key in ALONE | PAIR),
    }  # fmt: skip
    assert (metrics["utterances"], metrics["huggingface.failed"], metrics["fused.different"]) == (3, 0, 0)
    seconds = {
        engine: sum(row["seconds"][0] for row in results(workspace, "bundled", engine))
        for engine in ("huggingface", "fused")
    }
    assert metrics["fused.speedup"] == pytest.approx(seconds["huggingface"] / seconds["fused"])


def test_the_same_files_give_the_same_page(workspace: Path) -> None:
    page = workspace / "reports" / "bundled.html"
    before = page.read_bytes()
    assert b"<html" in before
    page.unlink()
    main(["report", "--profile", "bundled"])
    assert page.read_bytes() == before


def test_tracked_files_name_no_path_of_this_machine(workspace: Path) -> None:
    for path in (workspace / "reports").rglob("*.*"):
        assert str(workspace) not in path.read_text(encoding="utf-8"), path


def test_one_bad_clip_does_not_lose_the_others(workspace: Path) -> None:
    manifest = {row["id"]: row for row in read_jsonl(workspace / "build" / "broken" / "data" / "manifest.jsonl")}
    assert list(manifest) == ["first", "middle", "second"]
    error = manifest["middle"]["error"]
    assert "middle.wav" in error
    for engine in ("huggingface", "fused"):
        rows = {row["id"]: row for row in results(workspace, "broken", engine)}
        assert list(rows) == ["first", "middle", "second"]
        assert rows["middle"]["error"] == error
        assert rows["middle"]["tokens"] is None
        assert rows["second"]["text"] == "7 of clubs"
    metrics = read_json(workspace / "reports" / "broken" / "metrics.json")
    assert (metrics["utterances"], metrics["huggingface.failed"], metrics["fused.failed"]) == (3, 1, 1)
    page = (workspace / "reports" / "broken.html").read_text()
    assert "middle.wav" in page
    assert json.dumps(metrics)
