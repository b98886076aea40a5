import json

import pytest
from generated_runs import GIB, generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.errors import UserError

KEYS = {"total_s", "median_s", "p95_s", "rtfx", "token_s", "warmup_s", "peak_reserved_bytes", "process_peak_bytes",
        "wer", "truncated", "failed", "device_total_s", "energy_per_audio_hour_wh",
        "utterances_per_s", "wall_rtfx", "encoder_share", "workers"}  # fmt: skip
COUNTED = {"different", "different_tokens", "rounding_ties", "better", "worse", "not_judged"}
COMPARED = {"speedup", "speedup_low", "speedup_high", "speedup_rounds", "speedup_rounds_low",
            "speedup_rounds_high"} | COUNTED  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(made, here, **changes):
    made.write(here)
    folder = compare(profile(**changes), "example", params())
    return read_json(folder / "metrics.json"), read_json(folder / "context.json"), folder


def test_metrics_are_flat_and_complete(here):
    metrics, _, _ = run(generate(5), here)
    expected = {"utterances"} | {f"huggingface.{key}" for key in KEYS} | {f"fused.{key}" for key in KEYS | COMPARED}
    assert set(metrics) == expected
    assert all(value is None or isinstance(value, int | float) for value in metrics.values())


def test_the_speedup_is_the_ratio_of_the_sums_of_medians(here):
    made = generate(2)
    for engine, seconds in {"huggingface": ([9, 4, 5], [10]), "fused": ([2, 1, 30], [1])}.items():
        for row, values in zip(made.results[engine], seconds, strict=True):
            row["seconds"] = values
    made.manifest[0]["duration_s"], made.manifest[1]["duration_s"] = 20.0, 10.0
    metrics, context, _ = run(made, here)
    assert metrics["huggingface.total_s"] == 15
    assert metrics["fused.total_s"] == 3
    assert metrics["fused.speedup"] == 5
    # Draws of two from two: 2.5% and 97.5% lie at the single ratios, 5/2 and 10/1.
    assert (metrics["fused.speedup_low"], metrics["fused.speedup_high"]) == (2.5, 10)
    assert metrics["fused.rtfx"] == 10
    assert metrics["fused.median_s"] == 1.5
    assert metrics["fused.p95_s"] == pytest.approx(1.95)
    assert context["comparisons"]["fused"]["utterances"] == 2


def test_memory_on_a_gpu_and_on_a_cpu(here):
    metrics, _, _ = run(generate(2, cuda=True), here)
    assert metrics["fused.peak_reserved_bytes"] == int(3.1 * GIB)
    metrics, _, _ = run(generate(2), here)
    assert metrics["fused.peak_reserved_bytes"] is None
    assert metrics["fused.process_peak_bytes"] == int(0.7 * GIB)


def test_differences_by_the_notebook_s_rule_and_by_the_strict_one(here):
    made = generate(6, differing=2)
    made.results["fused"][4]["tokens"][0] += 1
    metrics, _, folder = run(made, here)
    assert (metrics["fused.different"], metrics["fused.different_tokens"]) == (2, 3)
    rows = read_jsonl(folder / "differences.jsonl")
    assert [row["same_text"] for row in rows] == [False, False, True]


def test_a_failed_utterance_stands_outside_the_speedup(here):
    made = generate(3)
    for engine, seconds in {"huggingface": [6, 2, 2], "fused": [1, 1, 1]}.items():
        for row, value in zip(made.results[engine], seconds, strict=True):
            row["seconds"] = [value]
    made.fail("fused", 0, "out of memory")
    metrics, context, folder = run(made, here)
    assert metrics["fused.speedup"] == 2
    assert metrics["huggingface.total_s"] == 10
    assert (metrics["fused.failed"], metrics["huggingface.failed"]) == (1, 0)
    assert context["comparisons"]["fused"]["baseline_total_s"] == 4
    assert read_jsonl(folder / "latency.jsonl")[0]["engines"]["fused"] == {
        "seconds": None, "tokens": None, "truncated": None, "text": None, "error": "out of memory",
    }  # fmt: skip


def test_an_engine_that_failed_throughout(here):
    made = generate(2)
    for number in range(2):
        made.fail("fused", number, "no kernel for this GPU")
    metrics, _, _ = run(made, here)
    assert metrics["fused.failed"] == 2
    assert metrics["fused.speedup"] is metrics["fused.total_s"] is metrics["fused.wer"] is None


def test_one_utterance_has_a_speedup_and_no_interval(here):
    metrics, _, _ = run(generate(1), here)
    assert metrics["fused.speedup"] > 1
    assert metrics["fused.speedup_low"] is metrics["fused.speedup_high"] is None


def test_word_error_rate_uses_the_checkpoint_s_spellings(here):
    made = generate(2)
    made.manifest[0]["reference"] = "THE COLOUR OF MONEY"
    made.manifest[1]["reference"] = None
    made.say("huggingface", 0, "The color of money.")
    made.say("fused", 0, "The color of Monday today.")
    metrics, context, _ = run(made, here)
    assert metrics["huggingface.wer"] == 0
    assert metrics["fused.wer"] == 0.5
    assert context["wer"]["fused"] == {
        "substitutions": 1, "insertions": 1, "deletions": 0, "words": 4, "utterances": 1,
    }  # fmt: skip
    assert context["comparisons"]["fused"]["wer_difference"] == 0.5


def test_no_reference_no_word_error_rate(here):
    made = generate(3)
    for row in made.manifest:
        row["reference"] = None
    made.spellings = None
    metrics, context, _ = run(made, here)
    assert metrics["fused.wer"] is None
    assert context["warnings"] == []


def test_synthetic_weights_have_no_word_error_rate(here):
    made = generate(3)
    made.model["trained"] = False
    metrics, _, _ = run(made, here)
    assert metrics["fused.wer"] is None


def test_a_checkpoint_without_spellings_is_warned_about(here):
    made = generate(3)
    made.spellings = None
    _, context, _ = run(made, here)
    assert "normalizer.json" in context["warnings"][0]


def test_truncated_outputs_are_counted(here):
    made = generate(4)
    made.results["fused"][2]["truncated"] = True
    metrics, _, _ = run(made, here)
    assert (metrics["fused.truncated"], metrics["huggingface.truncated"]) == (1, 0)


def test_the_same_runs_give_the_same_bytes(here):
    def content(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = content(run(generate(7, differing=1), here)[2])
    assert set(first) == {
        "metrics.json", "differences.jsonl", "evidence.jsonl", "latency.jsonl", "utterances.csv", "context.json",
    }  # fmt: skip
    assert first == content(run(generate(7, differing=1), here)[2])


def test_no_path_of_the_model_is_written(here):
    _, context, _ = run(generate(2), here)
    assert "build/models" not in json.dumps(context)


def refused(here, made, message):
    with pytest.raises(UserError, match=message):
        compare(profile(), "example", params())
    assert not (here / "reports").exists()


def test_a_missing_run(here):
    made = generate(2)
    del made.results["fused"]
    made.write(here)
    refused(here, made, r"run\.json does not exist, so fused has no run.*dvc repro")


def test_only_the_engines_of_params_are_read(here):
    made = generate(2)
    made.results["leftover"], made.about["leftover"] = made.results["fused"], made.about["fused"]
    metrics, _, _ = run(made, here)
    assert not any("leftover" in key for key in metrics)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data_sha256", "made from other data"),
        ("weights_sha256", "made with other weights"),
        ("model_sha256", "other configuration or tokenizer files"),
        ("profile", "another"),
        ("results_sha256", r"results\.jsonl is not the file that .*run\.json was written for"),
    ],
)
def test_a_run_of_other_data_weights_or_profile(here, key, message):
    made = generate(2)
    made.about["fused"][key] = "0" * 64
    made.write(here)
    refused(here, made, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(), "it lacks 1089-134686-0002"),
        (lambda rows: rows.append(rows[0] | {"id": "new"}), "it has new"),
        (lambda rows: rows.reverse(), "out of order"),
        (lambda rows: rows[0].update(seconds=[]), "neither an output with its time nor an error"),
        (lambda rows: rows[0].update(tokens="abc"), "row 1: tokens is not what this version writes"),
    ],
)
def test_results_that_do_not_follow_the_manifest(here, change, message):
    made = generate(3)
    change(made.results["fused"])
    made.write(here)
    refused(here, made, message)


def test_an_empty_manifest(here):
    made = generate(0)
    made.write(here)
    refused(here, made, "lists no utterance")


def test_the_table_for_plots_holds_numbers_and_no_names(here):
    made = generate(3)
    made.manifest[1]["id"] = "=cmd()"
    for rows in made.results.values():
        rows[1]["id"] = "=cmd()"
    made.fail("fused", 2, "out of memory")
    _, _, folder = run(made, here)
    lines = (folder / "utterances.csv").read_text().splitlines()
    assert lines[0] == "utterance,audio_s,tokens,huggingface,fused"
    assert len(lines) == 4
    assert lines[3].endswith(",")
    assert "cmd" not in "".join(lines)
    assert float(lines[1].split(",")[3]) == made.results["huggingface"][0]["seconds"][0]
