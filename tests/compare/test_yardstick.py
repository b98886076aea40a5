"""Variants of the baseline in `compare`: counted as engines are, judged by a real, tiny model, beside the engines."""

from pathlib import Path
from typing import Any

import pytest
from generated_runs import generate, params, profile

from tests.compare import real_folder
from whisper_speedup.compare import compare, rescore
from whisper_speedup.compare.judge import Score
from whisper_speedup.disk.files import read_json, read_jsonl, sha256, write_json, write_jsonl
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import Profile

OWN, OTHER = [60, 61, 62], [60, 70, 62]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*variants: str) -> Profile:
    whole = profile()
    return whole.model_copy(update={"measure": whole.measure.model_copy(update={"yardstick": list(variants)})})


def variant(build: Path, name: str, outputs: dict[int, list[int]], **about: Any) -> list[dict[str, Any]]:
    """build/yardstick/NAME: the baseline's run, but for the tokens of some utterances. Returns its rows."""
    run = build / "runs" / "huggingface"
    rows = read_jsonl(run / "results.jsonl")
    for number, tokens in outputs.items():
        text = " ".join(map(str, tokens))
        rows[number] |= {"tokens": tokens, "text": text, "raw_text": text}
    folder = build / "yardstick" / name
    write_jsonl(folder / "results.jsonl", rows)
    about["results_sha256"] = sha256(folder / "results.jsonl")
    write_json(folder / "run.json", read_json(run / "run.json") | about)
    return rows


def made(build: Path, *decoded: str, **left_out: str) -> None:
    write_json(build / "yardstick" / "variants.json", {"decoded": list(decoded), "left_out": left_out})


def test_variants_are_counted_and_judged_as_engines_are(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Known scores: the text that differs has a gap of 2^-7, which is a tie in fp16 and none in fp32.
    scores = {tuple(OWN): 0.0, tuple(OTHER): 2.0**-7, (60, 80): -1.0}
    asked_for: list[tuple[int, ...]] = []

    def score(judge: Any, features: Any, hypotheses: list[Any]) -> list[Score]:
        asked_for.extend(tuple(one.tokens) for one in hypotheses)
        return [Score(scores[tuple(one.tokens)], [-0.1] * 4) for one in hypotheses]

    monkeypatch.setattr("whisper_speedup.compare.judge.Judge.score", score)
    build = real_folder.write(here, monkeypatch, [(OWN, OWN), (OWN, OTHER), (OWN, OWN)])
    variant(build, "again", {})
    variant(build, "eager", {1: OTHER, 2: [60, 80]})
    variant(build, "half", {1: OTHER}, dtype="float16", settings={"precision": "half"})
    made(build, "again", "eager", "half", tf32="TF32 is a GPU's.")
    folder = compare(asked("again", "eager", "half", "tf32"), "example", params())
    metrics, context = read_json(folder / "metrics.json"), read_json(folder / "context.json")
    counts = ("different", "different_tokens", "rounding_ties", "better", "worse", "not_judged", "utterances")
    found = {name: [metrics[f"{name}.{key}"] for key in counts[:6]] for name in
             ("fused", "yardstick.again", "yardstick.eager", "yardstick.half")}  # fmt: skip
    assert found == {
        "fused": [1, 1, 0, 1, 0, 0],
        "yardstick.again": [0, 0, 0, 0, 0, 0],
        "yardstick.eager": [2, 2, 0, 1, 1, 0],
        "yardstick.half": [1, 1, 1, 0, 0, 0],
    }
    assert metrics["yardstick.eager.utterances"] == 3
    assert not [key for key in metrics if key.startswith("yardstick.tf32")]
    assert context["yardstick"] == {"variants": ["again", "eager", "half"], "left_out": {"tf32": "TF32 is a GPU's."}}
    rows = read_jsonl(folder / "differences.jsonl")
    assert [(row["engine"], row["id"], row["verdict"]) for row in rows] == [
        ("fused", "1", "better"), ("yardstick.eager", "1", "better"), ("yardstick.eager", "2", "worse"),
        ("yardstick.half", "1", "rounding tie"),
    ]  # fmt: skip
    # One utterance, one hypothesis, one score; and recordings only for the engines' differences.
    assert asked_for == [tuple(OWN), tuple(OTHER), tuple(OWN), (60, 80)]
    assert [row["id"] for row in read_jsonl(folder / "evidence.jsonl")] == ["1"]


def test_failing_and_cut_off_utterances_of_a_variant(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = real_folder.write(here, monkeypatch, [(OWN, OWN), (OWN, OWN)])
    rows = variant(build, "half", {1: [60, 61, 62, 63]})
    rows[0].update(tokens=None, text=None, raw_text=None, seconds=None, truncated=None, error="not a number")
    rows[1]["truncated"] = True
    folder = build / "yardstick" / "half"
    write_jsonl(folder / "results.jsonl", rows)
    about = {**read_json(folder / "run.json"), "results_sha256": sha256(folder / "results.jsonl")}
    write_json(folder / "run.json", about)
    made(build, "half")
    ends: list[bool] = []
    judged = rescore._Reference._scores

    def scores(reference: Any, utterance: str, hypotheses: list[Any]) -> Any:
        ends.extend(one.ended for one in hypotheses)
        return judged(reference, utterance, hypotheses)

    monkeypatch.setattr(rescore._Reference, "_scores", scores)
    folder = compare(asked("half"), "example", params())
    metrics = read_json(folder / "metrics.json")
    keys = ("utterances", "failed", "truncated", "different", "not_judged")
    assert [metrics[f"yardstick.half.{key}"] for key in keys] == [1, 1, 1, 1, 0]
    assert ends == [True, False]  # end-of-text is scored where it was reached
    (row,) = read_jsonl(folder / "differences.jsonl")
    assert row["verdict"] in ("rounding tie", "better", "worse")


def test_a_variant_of_other_data_or_not_there_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = real_folder.write(here, monkeypatch, [(OWN, OWN)])
    with pytest.raises(UserError, match=r"variants\.json does not exist"):
        compare(asked("again"), "example", params())
    made(build, "again")
    with pytest.raises(UserError, match=r"yardstick\.again has no run to compare"):
        compare(asked("again"), "example", params())
    variant(build, "again", {}, data_sha256="0" * 64)
    with pytest.raises(UserError, match=r"the run of yardstick\.again was made from other data"):
        compare(asked("again"), "example", params())
    assert not (here / "reports").exists()


def test_without_variants_nothing_is_looked_for(here: Path) -> None:
    generate(3).write(here)
    folder = compare(profile(), "example", params())
    assert not [key for key in read_json(folder / "metrics.json") if key.startswith("yardstick")]
    assert read_json(folder / "context.json")["yardstick"] == {"variants": [], "left_out": {}}
