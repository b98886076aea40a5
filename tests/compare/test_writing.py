"""The language of the texts, from the prompt that the baseline recorded, and what follows from it."""

from pathlib import Path
from typing import Any

import pytest
from generated_runs import GeneratedRuns, generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.compare.writing import language_of, mostly_unspaced
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.params.profile import GenerationParams

MULTILINGUAL = {
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 50259, "<|zh|>": 50260, "<|hi|>": 50276, "<|yue|>": 50358},
    "task_to_id": {"transcribe": 50360, "translate": 50359},
}
DETECTED = "The language was detected for each utterance"
CHINESE = "今天天氣很好我們去公園", "今天天氣很好我們去花園"  # one character of eleven is another
HINDI = "की में", "का मैं"  # two words of two, by their vowel signs alone


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    language: str | None,
    spoken: tuple[str | None, str],
    here: Path,
    prompt: list[int | None] | None = None,
    task: str = "transcribe",
    config: dict[str, Any] | None = None,
    spellings: bool = True,
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Metrics, context and differences of two utterances of (reference, what the engine heard).

    The baseline repeats the reference.
    """
    made: GeneratedRuns = generate(2)
    for number in range(2):
        made.manifest[number]["reference"] = spoken[0]
        for engine, text in (("huggingface", spoken[0] or spoken[1]), ("fused", spoken[1])):
            made.say(engine, number, text)
    if prompt is not None:
        for about in made.about.values():
            about["prompt"] = prompt
    if config is not None:
        made.model["name"] = "a checkpoint"
        (here / made.model["path"]).mkdir(parents=True)
        write_json(here / made.model["path"] / "generation_config.json", config)
    if not spellings:
        made.spellings = None
    made.write(here)
    asked = profile()
    generation = GenerationParams.model_validate(asked.generation.model_dump() | {"language": language, "task": task})
    folder = compare(asked.model_copy(update={"generation": generation}), "example", params())
    context = read_json(folder / "context.json")
    return read_json(folder / "metrics.json"), context, read_jsonl(folder / "differences.jsonl")


@pytest.mark.parametrize("language", ["English", "EN", "en"])
def test_english_by_any_name_has_no_note(here: Path, language: str) -> None:
    metrics, context, _ = run(language, ("The COLOUR, twenty one", "the color 21"), here)
    assert context["warnings"] == []
    assert metrics["fused.wer"] == 0
    assert context["writing"] == {"language": "en", "unit": "word", "normaliser": "english"}
    assert not {"normaliser", "fused.cer"} & set(metrics)


def test_hindi_s_vowel_signs_count(here: Path) -> None:
    metrics, context, rows = run("Hindi", HINDI, here)
    assert metrics["fused.wer"] == 1
    assert metrics["huggingface.wer"] == 0
    assert metrics["fused.different"] == 2
    assert metrics["normaliser"] == "basic (hi)"
    assert context["warnings"] == []
    assert [row["word_errors"] for row in rows] == [2, 2]


def test_texts_differ_by_the_normaliser_of_their_language(here: Path) -> None:
    """transformers' tokenizer, whose English normalisation `text` is, leaves nothing of two words that differ."""
    made = generate(1)
    made.about["huggingface"]["prompt"] = made.about["fused"]["prompt"] = [50258, 50276, 50360, 50364]
    for engine, raw in zip(("huggingface", "fused"), HINDI, strict=True):
        made.say(engine, 0, raw)
        made.results[engine][0]["text"] = "क म"
    made.results["fused"][0]["tokens"][0] += 1
    made.write(here)
    asked = profile()
    hindi = asked.generation.model_copy(update={"language": "hi"})
    folder = compare(asked.model_copy(update={"generation": hindi}), "example", params())
    assert read_json(folder / "metrics.json")["fused.different"] == 1
    (row,) = read_jsonl(folder / "differences.jsonl")
    assert (row["baseline_text"], row["text"], row["words_apart"]) == (*HINDI, 2)
    assert read_jsonl(folder / "latency.jsonl")[0]["engines"]["fused"]["text"] == HINDI[1]


@pytest.mark.parametrize("language", ["zh", "Cantonese", "ja", "Thai", "lo", "km", "Myanmar", "bo"])
def test_characters_count_where_there_are_no_spaces(here: Path, language: str) -> None:
    metrics, context, rows = run(language, CHINESE, here)
    assert metrics["fused.cer"] == pytest.approx(1 / 11)
    assert metrics["fused.wer"] == 1
    assert context["cer"]["fused"] == {
        "substitutions": 2, "insertions": 0, "deletions": 0, "characters": 22, "utterances": 2,
    }  # fmt: skip
    assert context["comparisons"]["fused"]["cer_difference"] == pytest.approx(1 / 11)
    assert (rows[0]["characters_apart"], rows[0]["baseline_character_errors"], rows[0]["character_errors"]) == (1, 0, 1)


def test_spaces_and_punctuation_make_no_difference_where_there_are_no_words(here: Path) -> None:
    metrics, _, rows = run("zh", ("今天，天氣 好。", "今天天氣好"), here)
    assert metrics["fused.different"] == metrics["fused.cer"] == 0
    assert all(row["same_text"] for row in rows)


def test_korean_is_written_with_spaces(here: Path) -> None:
    metrics, context, _ = run("ko", ("안녕 세계", "안녕 세상"), here)
    assert metrics["fused.wer"] == 0.5
    assert context["writing"]["unit"] == "word"


@pytest.mark.parametrize("reference", ["", "?!", "\u3002\u3001", "❤\ufe0f"])
@pytest.mark.parametrize("language", ["hi", "zh", None])
def test_references_of_nothing_or_punctuation_are_defined(here: Path, language: str | None, reference: str) -> None:
    metrics, _, _ = run(language, (reference, "x"), here, [50258, None, 50360, 50364])
    assert metrics["fused.wer"] is None
    assert metrics.get("fused.cer") is None


def test_mixed_scripts(here: Path) -> None:
    metrics, _, _ = run("zh", ("我用 iPhone 打電話", "我用iphone打电话"), here)
    assert metrics["fused.cer"] == pytest.approx(2 / 11)


def test_an_unknown_language_is_said_and_hides_nothing(here: Path) -> None:
    metrics, context, _ = run(None, HINDI, here, [50258, None, 50360, 50364], config=MULTILINGUAL)
    assert any(DETECTED in note for note in context["warnings"])
    assert metrics["fused.wer"] == 1
    assert metrics["normaliser"] == "basic (the language was detected for each utterance)"
    assert context["writing"] == {"language": None, "unit": "word", "normaliser": "basic"}


def test_an_unknown_language_is_judged_by_its_script(here: Path) -> None:
    metrics, context, _ = run(None, CHINESE, here, [50258, None, 50360, 50364], config=MULTILINGUAL)
    assert metrics["fused.cer"] == pytest.approx(1 / 11)
    assert context["writing"]["unit"] == "character"
    _, context, _ = run(None, (None, CHINESE[1]), here, [50258, None, 50360, 50364])
    assert context["writing"]["unit"] == "character"


def test_a_translation_is_english(here: Path) -> None:
    spoken = ("The COLOUR", "the color")
    metrics, context, _ = run("hi", spoken, here, [50258, 50276, 50359, 50364], "translate", MULTILINGUAL)
    assert context["warnings"] == []
    assert metrics["fused.wer"] == 0
    _, context, _ = run(None, spoken, here, [50258, None, 50359, 50364], "translate")
    assert (context["warnings"], context["writing"]["normaliser"]) == ([], "english")


@pytest.mark.parametrize("config", [None, {"is_multilingual": False}])
def test_an_english_checkpoint_needs_no_language(here: Path, config: dict[str, Any] | None) -> None:
    metrics, context, _ = run(None, ("The COLOUR", "the color"), here, [50257, 50362], config=config)
    assert context["warnings"] == []
    assert metrics["fused.wer"] == 0


def test_an_english_checkpoint_asked_for_another_language_says_so(here: Path) -> None:
    config = {"is_multilingual": False}
    _, context, _ = run("hi", ("The COLOUR", "the color"), here, [50257, 50362], config=config)
    assert context["writing"]["normaliser"] == "english"
    assert "generation.language hi did nothing" in " ".join(context["warnings"])


def test_other_languages_need_no_table_of_english_spellings(here: Path) -> None:
    _, context, _ = run("hi", HINDI, here, spellings=False)
    assert context["warnings"] == []


def test_random_weights_of_an_unknown_language_have_no_note(here: Path) -> None:
    made = generate(2)
    made.model["trained"] = False
    for about in made.about.values():
        about["prompt"] = [50258, None, 50360, 50364]
    made.write(here)
    asked = profile()
    unknown = asked.generation.model_copy(update={"language": None})
    folder = compare(asked.model_copy(update={"generation": unknown}), "example", params())
    assert read_json(folder / "context.json")["warnings"] == []


@pytest.mark.parametrize(
    ("prompt", "asked", "config", "expected"),
    [
        ([50258, 50276, 50360, 50364], None, MULTILINGUAL, "hi"),  # by the checkpoint's generation config
        ([50258, 50259, 50360, 50364], None, MULTILINGUAL, "en"),
        ([50258, 50276, 50359, 50364], "hi", MULTILINGUAL, "en"),
        ([50258, None, 50360, 50364], None, MULTILINGUAL, None),
        ([50258, None, 50359, 50364], None, MULTILINGUAL, "en"),
        ([50258], None, {}, None),  # an old checkpoint, which names no languages
        ([50257, 50362], None, {"is_multilingual": False}, "en"),
        ([50258, 50358, 50360, 50364], "yue", {}, "yue"),
    ],
)
def test_the_prompt_says_the_language(
    tmp_path: Path, prompt: list[int | None], asked: str | None, config: dict[str, Any], expected: str | None
) -> None:
    write_json(tmp_path / "generation_config.json", config)
    generation = profile().generation.model_copy(update={"language": asked})
    assert language_of(tmp_path, prompt, generation) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["今天"], True), (["สวัสดี"], True), (["ひらがな カタカナ"], True), (["안녕"], False), (["hello 你"], False),
     (["नमस्ते"], False), (["123 ?"], False), ([], False)],
)  # fmt: skip
def test_scripts_without_spaces(texts: list[str], expected: bool) -> None:
    assert mostly_unspaced(texts) is expected
