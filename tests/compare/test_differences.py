import pytest
from generated_runs import generate

from whisper_speedup.audio.row import Row
from whisper_speedup.compare.differences import differing_rows, first_divergence


@pytest.mark.parametrize(
    ("a", "b", "position"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 9, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [5], 0), ([], [], None)],
)
def test_first_divergence(a, b, position):
    assert first_divergence(a, b) == position
    assert first_divergence(b, a) == position


def rows(made, normalise=str.lower):
    manifest = [Row.model_validate(row) for row in made.manifest]
    return differing_rows(manifest, made.run("huggingface"), made.run("fused"), normalise)


def test_equal_outputs_give_no_row():
    assert rows(generate(5)) == []


def test_a_row_carries_both_outputs_and_the_verdict_of_the_reference():
    made = generate(3)
    made.manifest[1]["reference"] = "ONE TWO THREE"
    made.say("huggingface", 1, "one two four")
    made.say("fused", 1, "one five five")
    made.results["fused"][1]["tokens"][0] += 1
    (row,) = rows(made)
    assert (row.id, row.engine) == (made.manifest[1]["id"], "fused")
    assert (row.baseline_text, row.text) == ("one two four", "one five five")
    assert row.same_text is False
    assert row.first_divergence == 0
    assert row.reference_text == "one two three"
    assert (row.baseline_word_errors, row.word_errors) == (1, 2)
    assert row.scores["fused"] == made.results["fused"][1]["score"]


def test_other_tokens_of_the_same_text_are_a_row_of_the_strict_rule():
    made = generate(2)
    made.results["fused"][0]["tokens"][-1] += 1
    (row,) = rows(made)
    assert row.same_text is True
    assert row.first_divergence == len(made.results["fused"][0]["tokens"]) - 1


def test_a_failed_utterance_is_no_difference():
    made = generate(2, differing=2)
    made.fail("fused", 0, "out of memory")
    assert [row.id for row in rows(made)] == [made.manifest[1]["id"]]


def test_synthetic_weights_are_not_judged():
    (row,) = rows(generate(1, differing=1), normalise=None)
    assert row.word_errors is None
    assert row.reference_text is None
