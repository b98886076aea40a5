"""Error rates on the page: characters first where a language has no spaces between words, words alone elsewhere."""

from pathlib import Path

import pytest
from generated_runs import generate, params, profile
from html_check import Page

from whisper_speedup.compare import compare
from whisper_speedup.compare.differences import Difference
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.disk.records import read_records
from whisper_speedup.params.profile import Params
from whisper_speedup.report import render
from whisper_speedup.report.align import Piece, align
from whisper_speedup.report.cards import cards
from whisper_speedup.report.rates import CHARACTERS

CHINESE = "今天天氣很好我們去公園", "今天天氣很好我們去花園"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page(here: Path, language: str | None, reference: str | None, heard: str, engine: str = "fused") -> tuple[str, str]:
    """The page of one utterance and its text; the baseline repeats the reference, `engine` says `heard`."""
    made = generate(1)
    made.manifest[0]["reference"] = reference
    made.results[engine], made.about[engine] = made.results["fused"], made.about["fused"] | {"engine": engine}
    for about in made.about.values():
        about["prompt"] = [50258, None, 50360, 50364]
    made.say("huggingface", 0, reference or CHINESE[0])
    made.say(engine, 0, heard)
    made.results[engine][0]["tokens"][0] += 1
    made.write(here)
    asked = profile()
    generation = asked.generation.model_copy(update={"language": language})
    asked = asked.model_copy(update={"generation": generation})
    compare(asked, "example", params() if engine == "fused" else Params(profile="example", engines=["kernl_phantom"]))
    html = render("example").read_text(encoding="utf-8")
    return html, Page(html).text


def test_chinese_is_judged_by_characters_with_words_beside(here: Path) -> None:
    html, text = page(here, "zh", *CHINESE)
    for words in (
        "Character error rate (CER) 9.09% of the characters are wrong Hugging Face 0.00%",
        "difference +9.09 points",
        "WER 100.00%",
        "1 character differs",
        "Hugging Face is closer: 0 character errors, Fused 1",
        "for each character of the reference",
        "Word error rate 0.00% 100.00%",
    ):
        assert words in text
    assert '去<del><span>公</span><span class="mark">S1</span></del>園' in html
    assert "of the words are wrong" not in text


def test_hindi_is_judged_by_words_with_marks(here: Path) -> None:
    _, text = page(here, "hi", "की में", "का मैं")
    assert "100.00% of the words are wrong" in text
    assert "vowel signs and other marks kept" in text
    assert "Before you compare these runs" not in text
    assert "CER" not in text


def test_a_detected_language_is_noted_above_the_numbers(here: Path) -> None:
    _, text = page(here, None, "की में", "का मैं")
    assert "Before you compare these runs. The language was detected for each utterance and not recorded" in text


def test_no_reference(here: Path) -> None:
    _, text = page(here, "zh", None, CHINESE[1])
    assert "There is no character error rate: no utterance that was decoded has a reference text." in text


def test_the_section_on_kernl_s_mask_counts_the_same(here: Path) -> None:
    _, text = page(here, "zh", *CHINESE, engine="kernl_phantom")
    assert "Character errors" in text
    assert "1 of 11" in text
    assert "Character error rate: 0.00% without the mask, 9.09% with it (+9.09 points)." in text


def test_results_from_before_there_were_other_languages_still_render(here: Path) -> None:
    page(here, "en", "stew today", "stew tonight")
    path = here / "reports" / "example" / "context.json"
    context = read_json(path)
    del context["writing"]
    write_json(path, context)
    text = Page(render("example").read_text(encoding="utf-8")).text
    assert "50.00% of the words are wrong" in text
    assert "Whisper's English normalisation of both texts" in text


def test_marks_stay_with_their_letter() -> None:
    assert align("ที่ นี่", "ที่นี้", CHARACTERS) == [
        Piece("same", "ที่", "ที่", 0), Piece("substitution", "นี่", "นี้", 1, 1),
    ]  # fmt: skip
    assert align("", "", CHARACTERS) == []
    assert align("好 好", "好", CHARACTERS)[-1].kind == "deletion"


def test_the_card_with_more_characters_comes_first(here: Path) -> None:
    page(here, "zh", *CHINESE)
    (row,) = read_records(Difference, here / "reports" / "example" / "differences.jsonl")
    rows = [row, row.but(id="worse", characters_apart=5)]
    made, _ = cards(rows, [], {"huggingface": "Hugging Face", "fused": "Fused"}, "huggingface", 10, CHARACTERS)
    assert [card.what for card in made] == ["5 characters differ", "1 character differs"]
