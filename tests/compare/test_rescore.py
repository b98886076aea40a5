"""Differences judged by a real, tiny model: what a row of differences.jsonl says, and why one is not judged."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from generated_runs import generate, params, profile

from tests.compare import real_folder
from whisper_speedup.compare import compare
from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.disk.files import read_json, read_jsonl

SAME, LEFT, RIGHT = [60, 61, 62], [60, 61, 62, 63], [60, 70, 62]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared(**changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    folder = compare(profile(), "example", params())
    return (
        read_jsonl(folder / "differences.jsonl"), read_json(folder / "metrics.json"),
        read_json(folder / "context.json")["rescoring"],
    )  # fmt: skip


def test_both_hypotheses_are_scored_by_the_reference(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_folder.write(here, monkeypatch, [(SAME, SAME), (LEFT, RIGHT)])
    (row,), metrics, about = compared()
    model = load(Path("weights"), torch.device("cpu"))
    features = real_features(1)
    pair = [Hypothesis(LEFT, True), Hypothesis(RIGHT, True)]
    before, after = Judge(model, real_folder.PROMPT).score(features, pair)
    assert row["reference_scores"] == {"baseline": pytest.approx(before.value), "fused": pytest.approx(after.value)}
    assert row["gap"] == pytest.approx(after.value - before.value)
    assert row["epsilon"] == 2**-13
    assert abs(row["gap"]) > 2**-13
    assert row["verdict"] == ("better" if row["gap"] > 0 else "worse")
    assert row["not_judged"] is None
    assert [row["fork"][name]["token"] for name in ("baseline", "fused")] == [61, 70]
    assert row["fork"]["fused"]["probability"] == pytest.approx(math.exp(after.log_probs[1]))
    assert isinstance(row["fork"]["fused"]["text"], str)
    assert metrics["fused.better"] + metrics["fused.worse"] == about["judged"] == 1
    assert metrics["fused.rounding_ties"] == metrics["fused.not_judged"] == 0
    assert about["reason"] is None


def real_features(number: int) -> torch.Tensor:
    from transformers import WhisperFeatureExtractor

    from whisper_speedup.audio import manifest
    from whisper_speedup.audio.features import log_mel
    from whisper_speedup.audio.row import read_manifest

    path = Path("build/example/data/manifest.jsonl")
    audio = manifest.load_audio(path, read_manifest(path)[number])
    return log_mel(audio, WhisperFeatureExtractor.from_pretrained("weights"))


def test_one_text_that_ends_where_the_other_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_folder.write(here, monkeypatch, [(SAME, LEFT)])
    (row,), _, _ = compared()
    assert row["first_divergence"] == 3
    end = row["fork"]["baseline"]
    assert end["token"] is end["text"] is None
    assert 0 < end["probability"] < 1  # of end-of-text
    assert row["fork"]["fused"]["token"] == 63


def test_several_windows_are_not_judged(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = real_folder.TIMESTAMPS
    real_folder.write(here, monkeypatch, [(LEFT, [60, stamp + 5, stamp + 5, 61])])
    (row,), metrics, about = compared()
    assert row["verdict"] is None
    assert "several windows" in row["not_judged"]
    assert metrics["fused.worse"] is None
    assert metrics["fused.not_judged"] == 1
    assert about["not_judged"] == 1


def test_a_lost_recording_is_the_reason_and_the_others_are_judged(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = real_folder.write(here, monkeypatch, [(LEFT, RIGHT), (LEFT, RIGHT)])
    sorted((build / "data" / "audio").iterdir())[0].unlink()
    rows, _, about = compared()
    assert "recording was not on the machine" in rows[0]["not_judged"]
    assert rows[1]["verdict"] is not None
    assert (about["judged"], about["not_judged"]) == (1, 1)
    evidence = {row["id"]: row for row in read_jsonl(Path("reports/example/evidence.jsonl"))}
    assert evidence["0"]["audio"] is None
    assert "not on the machine" in evidence["0"]["left_out"]
    assert evidence["1"]["audio"]


def test_lost_or_other_weights_are_the_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(3, differing=1).write(here)  # its folder holds no weights
    (row,), metrics, about = compared()
    assert row["verdict"] is row["gap"] is None
    assert row["not_judged"] == about["reason"]
    assert "were not those of the runs" in about["reason"]
    assert "are not re-scored" in capsys.readouterr().err
    assert metrics["fused.rounding_ties"] is metrics["fused.better"] is metrics["fused.worse"] is None


def test_nothing_to_judge_loads_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisper_speedup.compare.rescore._judge", lambda *_: pytest.fail("weights were loaded"))
    generate(3).write(here)
    rows, metrics, about = compared()
    assert rows == []
    assert (metrics["fused.rounding_ties"], metrics["fused.better"], metrics["fused.worse"]) == (0, 0, 0)
    assert about == {
        "judged": 0, "ties": 0, "better": 0, "worse": 0, "not_judged": 0, "reason": "no output differs", "device": None,
    }  # fmt: skip
