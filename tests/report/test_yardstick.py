from typing import Any

import pytest
from generated_runs import generate, params, profile
from html_check import Page

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json, read_jsonl, write_json, write_jsonl
from whisper_speedup.report import render
from whisper_speedup.report.yardstick import called, sentence, span, yardstick

LABELS, PLACES = {"huggingface": "Hugging Face", "fused": "Fused"}, {"huggingface": 0, "fused": 1}


def made(**variants: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and metrics for `fused` and these variants: NAME=(texts, tokens, ties, better, worse, ...)."""
    context = {
        "baseline": "huggingface", "engines": ["huggingface", "fused"], "comparisons": {"fused": {"utterances": 78}},
        "yardstick": {"variants": list(variants), "left_out": {"tf32": "TF32 is a GPU's."}},
    }  # fmt: skip
    keys = ("different", "different_tokens", "rounding_ties", "better", "worse", "not_judged", "failed", "utterances")
    metrics = {f"fused.{key}": 0 for key in keys}
    for name, counts in variants.items():
        whole = [*counts, *([0, 0, 78][len(counts) - 5 :])]
        metrics |= {f"yardstick.{name}.{key}": value for key, value in zip(keys, whole, strict=True)}
    return context, metrics


def test_engines_and_variants_stand_in_one_table():
    context, metrics = made(again=(0, 0, 0, 0, 0), half=(2, 3, 3, 0, 0), bfloat16=(9, 11, 8, 1, 2))
    found = yardstick(context, metrics, LABELS, PLACES)
    assert found is not None
    assert [found.labels[row] for row in found.rows] == [
        "Fused", "Hugging Face, run again", "Hugging Face, fp16", "Hugging Face, bf16",
    ]  # fmt: skip
    assert {column.title: column.cells for column in found.columns} == {
        "Texts that differ": ["0 of 78", "0 of 78", "2 of 78", "9 of 78"],
        "Token ids that differ": ["0 of 78", "0 of 78", "3 of 78", "11 of 78"],
        "Rounding ties": ["0", "0", "3", "8"], "Better": ["0", "0", "0", "1"], "Worse": ["0", "0", "0", "2"],
    }  # fmt: skip
    assert {found.places[row] for row in found.rows[1:]} == {0}
    assert found.left_out == [("TF32", "TF32 is a GPU's")]
    assert found.sentence == "Of 78 texts Hugging Face changes 0 when run again, 2 with fp16 and 9 with bf16."
    assert span(context, metrics) == "Hugging Face differs from itself in 0 to 9"


def test_what_is_rare_has_a_column_only_when_it_happened():
    context, metrics = made(half=(1, 1, 0, 0, 0, 1, 2, 76))
    found = yardstick(context, metrics, LABELS, PLACES)
    assert found is not None
    cells = {column.title: column.cells for column in found.columns}
    assert (cells["Not judged"], cells["No output"]) == (["0", "1"], ["0", "2"])
    assert cells["Texts that differ"] == ["0 of 78", "1 of 76"]


def test_one_variant():
    context, metrics = made(eager=(0, 0, 0, 0, 0))
    assert sentence(context, metrics) == "Of 78 texts Hugging Face changes 0 with eager attention."
    assert span(context, metrics) == "Hugging Face differs from itself in 0"


def test_none_was_decoded():
    context, metrics = made()
    assert yardstick(context, metrics, LABELS, PLACES) is span(context, metrics) is None
    del context["yardstick"]  # results from before there were any
    assert yardstick(context, metrics, LABELS, PLACES) is span(context, metrics) is None


@pytest.mark.parametrize(
    ("variant", "words"), [("yardstick.threads_1", "1 thread"), ("threads_4", "4 threads"), ("sdpa", "SDPA attention")]
)
def test_a_variant_in_words(variant, words):
    assert called(variant) == words


def test_the_page_shows_it_beside_the_engines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generate(3, differing=1).write(tmp_path)
    folder = compare(profile(), "example", params())
    assert "differs from itself was not measured" in Page(render("example").read_text(encoding="utf-8")).text
    context, metrics = read_json(folder / "context.json"), read_json(folder / "metrics.json")
    write_json(folder / "context.json", context | {"yardstick": {"variants": ["half"], "left_out": {}}})
    counts = {"different": 1, "different_tokens": 1, "rounding_ties": 1, "better": 0, "worse": 0, "not_judged": 0}
    counts |= {"failed": 0, "utterances": 3, "truncated": 0}
    write_json(folder / "metrics.json", metrics | {f"yardstick.half.{key}": value for key, value in counts.items()})
    rows = read_jsonl(folder / "differences.jsonl")
    names = {"scores": {"baseline": None, "yardstick.half": None}, "engine": "yardstick.half"}
    truncated = {"truncated": {"baseline": False, "yardstick.half": False}}
    write_jsonl(folder / "differences.jsonl", [*rows, rows[0] | names | truncated])
    page = render("example").read_text(encoding="utf-8")
    read = Page(page)
    assert "Of 3 texts Hugging Face changes 1 with fp16." in read.text
    assert "Hugging Face, fp16 1 of 3 1 of 3 1 0 0" in read.text
    assert "Hugging Face differs from itself in 1" in read.text
    assert page.count("<article") == 1  # a card for the engine's difference, none for the variant's
