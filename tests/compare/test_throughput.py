"""What metrics.json says of whole sets, and how a batch engine is compared with one utterance at a time."""

from pathlib import Path
from typing import Any

import pytest
from generated_batches import batches
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json
from whisper_speedup.params.profile import Params


def compared(made: Any, engines: list[str]) -> dict[str, Any]:
    made.write(Path.cwd())
    return read_json(compare(profile(), "example", Params(profile="example", engines=engines)) / "metrics.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rates_and_shares() -> None:
    made = batches(12)
    metrics = compared(made, ["fused", "fused_batch"])
    audio_s = sum(row["duration_s"] for row in made.manifest)
    assert metrics["fused_batch.utterances_per_s"] == 6
    assert metrics["fused_batch.wall_rtfx"] == pytest.approx(audio_s / 2)
    assert metrics["fused_batch.encoder_share"] == 0.75
    assert metrics["fused.encoder_share"] == 0.25
    assert metrics["fused.workers"] == 2


def test_a_batch_engine_is_compared_by_its_workers_seconds_for_the_set() -> None:
    made = batches(12)
    made.fail("huggingface", 3, "it fell.")
    metrics = compared(made, ["fused", "fused_batch"])
    before = sum(row["seconds"][0] for row in made.results["huggingface"] if row["error"] is None)
    assert metrics["fused_batch.total_s"] == pytest.approx(4)  # two workers for two seconds
    assert metrics["fused_batch.speedup"] == pytest.approx(before / (4 * 11 / 12))
    assert metrics["fused_batch.speedup_low"] is None
    assert metrics["fused_batch.token_s"] is None
    # ... and the others as ever: by the sum of their utterances.
    assert metrics["fused.total_s"] == pytest.approx(sum(row["seconds"][0] for row in made.results["fused"]))
    assert metrics["fused.speedup_low"] is not None


def test_runs_from_before_have_none() -> None:
    generate(5).write(Path.cwd())
    metrics = read_json(compare(profile(), "example", params()) / "metrics.json")
    assert [metrics[f"fused.{key}"] for key in ("utterances_per_s", "wall_rtfx", "encoder_share", "workers")] == [
        None
    ] * 4


def test_a_process_that_had_nothing_left_to_decode() -> None:
    made = batches(4)
    for about in made.about.values():
        about["throughput"] |= {"utterances": 0, "audio_s": 0.0, "seconds": None}
    metrics = compared(made, ["fused_batch"])
    assert metrics["fused_batch.total_s"] is None
    assert metrics["fused_batch.speedup"] is None
