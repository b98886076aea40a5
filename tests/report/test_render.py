import base64
import hashlib
import re
import socket

import pytest
import yaml
from generated_reports import big
from generated_runs import generate, params, profile
from html_check import Page

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.errors import UserError
from whisper_speedup.report import published, render

HOSTILE = [
    "archeology</span>",
    "</td></table></article><h1>owned</h1>",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u202c שלום עולם",
    "😀 👩‍👩‍👧‍👦 e\u0301 \u0000 \ufeff",
    "&lt;already&gt; &amp;",
    "x" * 10_000,
    "word " * 2000,
    "",
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page(made, here, **report):
    made.write(here)
    compare(profile(**report), "example", params())
    html = render("example").read_text(encoding="utf-8")
    return html, check(html)


def big_page(here):
    big(here)
    return render("example").read_text(encoding="utf-8")


def check(html):
    """What holds for every page."""
    read = Page(html)
    tags = {tag for tag, _ in read.elements}
    assert tags.isdisjoint({"iframe", "object", "embed", "link", "base", "form", "video"})
    assert read.count("script") == 1
    names = {name for _, attributes in read.elements for name in attributes}
    assert not any(name.startswith("on") for name in names)
    assert names.isdisjoint({"style", "srcset", "action", "ping"})
    for tag, attributes in read.elements:
        if "src" in attributes:
            kind = {"img": "data:image/png;base64,", "audio": "data:audio/mpeg;base64,"}[tag]
            assert attributes["src"].startswith(kind)
    ids = read.all("id")
    assert len(ids) == len(set(ids))
    for target in read.all("href"):
        if target.startswith("#"):
            assert target[1:] in ids, f"{target} leads nowhere"
        else:
            assert target in (published.SOURCE, "https://github.com/pytorch/pytorch/pull/165068")
    style, script = (
        base64.b64encode(hashlib.sha256(html.split(f"<{tag}>")[1].split(f"</{tag}>")[0].encode()).digest()).decode()
        for tag in ("style", "script")
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; media-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert read.count("meta", content=policy) == 1
    assert "None" not in read.text
    assert "nan" not in read.text.lower().split()
    return read


def test_the_page_says_what_was_found(here):
    _, read = page(generate(13, differing=2), here)
    for words in (
        "Whisper tiny.en on made-up recordings",
        "Fused transcribes the same 13 utterances 3.07 times as fast as Hugging Face. 2 of 13 outputs differ (15.38%).",
        "3.07\N{MULTIPLICATION SIGN} the speed of Hugging Face 95% interval 2.90 to 3.23",
        "2 of 13 outputs differ",
        "3.97% of the words are wrong Hugging Face 3.25%",
        "difference +0.72 points",
        "0.70 GiB the whole process Hugging Face 1.05 GiB",
        "Measured on a CPU. These numbers come from Example CPU 3000",
        "13 utterances, not the 2,620 of LibriSpeech test-clean.",
        "Not known from this run",
        "make reproduce PROFILE=example",
        "num_beams: 5",
        "transformers 5.17.0",
    ):
        assert words in read.text
    assert read.count("article") == 2
    assert read.count("svg", role="img") == 3


def test_the_notebook_s_claims_stand_beside_ours(here):
    _, read = page(generate(3), here)
    for claim in ("2.3\N{MULTIPLICATION SIGN}", "39.8 min", "17.1 min", "37 of 2,620 (1.41%)", "13.4 min", "13.6 GiB"):
        assert claim in read.text


def test_differing_words_are_marked_by_a_sign_and_not_by_colour_alone(here):
    made = generate(1)
    made.manifest[0]["reference"] = "He hoped for stew"
    made.say("huggingface", 0, "he hoped for stew today")
    made.say("fused", 0, "he longed for stew")
    html, read = page(made, here)
    assert '<del><span>hoped</span><span class="mark">S1</span></del>' in html
    assert '<ins><span>longed</span><span class="mark">S1</span></ins>' in html
    assert '<del><span>today</span><span class="mark">D2</span></del>' in html
    assert '<span class="gap">\N{EMPTY SET}<span class="mark">D2</span></span>' in html
    assert "2 words differ" in read.text
    assert "equally far: 1 word error each" in read.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_transcripts_and_names_are_only_text(here, text):
    made = generate(4, differing=2)
    made.say("fused", 0, text)
    made.say("huggingface", 1, text)
    made.manifest[2]["reference"] = made.manifest[0]["reference"] = text
    for rows in (made.manifest, *made.results.values()):
        rows[3]["id"] = text or "empty"
    made.fail("fused", 2, text or "empty")
    made.model["name"] = made.about["fused"]["device_name"] = text or "empty"
    _, read = page(made, here, title=(text or "empty")[:200])
    assert " ".join(text.split()) in read.text
    assert "owned" not in read.text or "<h1>owned</h1>" in read.text


def test_a_hostile_spelling_table(here):
    made = generate(2)
    made.spellings["stew"] = "archeology</span>"
    made.manifest[0]["reference"] = "STEW"
    made.say("fused", 0, "archeology</span>")
    html, _ = page(made, here)
    assert "archeology&lt;/span&gt;" in html
    assert "archeology</span>" not in html


def test_no_references(here):
    made = generate(3, differing=1)
    for row in made.manifest:
        row["reference"] = None
    _, read = page(made, here)
    assert "no utterance that was decoded has a reference text" in read.text
    assert "\N{EN DASH} no reference texts" in read.text


def test_one_utterance(here):
    _, read = page(generate(1), here)
    assert "and the text is the same." in read.text
    assert "95% interval \N{EN DASH}" not in read.text


def test_all_differ_and_the_cards_are_limited_but_not_the_count(here):
    _, read = page(generate(9, differing=9), here, max_differences=4)
    assert read.count("article") == 4
    assert "9 of 9 outputs differ (100.00%)." in read.text
    assert "5 more are in differences.jsonl" in read.text


def test_the_furthest_apart_comes_first_and_equal_text_last(here):
    made = generate(3, differing=2)
    made.results["fused"][2]["tokens"][0] += 1
    made.say("fused", 1, "entirely other words")
    _, read = page(made, here)
    names = re.findall(r"1089-134686-000(\d) #", read.text)
    assert names == ["1", "0", "2"]
    assert "same text from other tokens" in read.text


def test_failed_utterances_are_listed_with_their_errors(here):
    made = generate(5)
    made.manifest[1] |= {"error": "clip.wav is empty.", "audio": None, "sha256": None, "duration_s": 0.0}
    for engine in made.results:
        made.fail(engine, 1, "clip.wav is empty.")
    made.fail("fused", 3, "out of memory")
    _, read = page(made, here)
    assert "Some utterances have no output" in read.text
    assert "Fused: 2 utterances without output." in read.text
    assert "every engine clip.wav is empty." in read.text
    assert "Fused out of memory" in read.text


def test_an_engine_that_decoded_nothing(here):
    made = generate(3)
    for number in range(3):
        made.fail("fused", number, "no kernel for this GPU")
    _, read = page(made, here)
    assert "There is no speedup to give" in read.text


def test_no_engine_decoded_anything(here):
    made = generate(1)
    for engine in made.results:
        made.fail(engine, 0, "broken")
    _, read = page(made, here)
    assert "There is no speedup to give" in read.text


def test_notices(here):
    made = generate(4, cuda=True)
    made.model["trained"] = False
    made.results["huggingface"][0]["truncated"] = True
    made.manifest[2]["cut_from_s"] = 41.5
    made.manifest[1]["note"] = "a.ogg has no end flag: all that is there was decoded."
    made.about["fused"]["environment"] = made.about["fused"]["environment"] | {"torch": "2.11.0"}
    _, read = page(made, here)
    for words in (
        "These weights are random, not trained",
        "Hugging Face: 1 text stopped by the limit of 50 tokens",
        "the rest of 1 longer recording was left out",
        "cut from 41.5 s",
        "a.ogg has no end flag: all that is there was decoded.",
        "torch 2.11.0 against 2.13.0+cu130",
        "3.10 GiB of GPU memory Hugging Face 4.65 GiB",
        "GPU clock, MHz",
        "1,980 then 1,980",
        "Throttled by",
        "none then none",
        "gpus.0.memory_bytes 80.0 GiB",
    ):
        assert words in read.text
    assert "Measured on a CPU" not in read.text


def test_the_notebook_s_own_setting_gives_no_notice(here):
    made = generate(2620, cuda=True)
    made.model["name"] = published.MODEL
    for about in made.about.values():
        about["device_name"] = published.HARDWARE
    _, read = page(made, here)
    assert "Not the notebook's setting" not in read.text
    assert "Read this first" not in read.all("aria-label")


@pytest.mark.slow
def test_a_page_of_2620_utterances_and_40_differences_with_recordings_is_at_most_6_megabytes(here):
    html = big_page(here)
    read = check(html)
    assert len(html.encode()) <= 6_000_000
    assert read.count("article") == 40
    assert read.count("audio") >= 30
    assert read.count("img") == read.count("audio")
    assert "30 rounding ties, 10 worse" in read.text
    for words in ("Where the time goes", "must read 1.85 GB", "⚠ Worse"):
        assert words in read.text
    missing = read.text.split("Not known from this run")[1]
    assert missing.lstrip().startswith("What each optimisation brings by itself: profile ladder measures it")


def test_the_same_files_give_the_same_bytes_and_the_build_folder_is_not_needed(here):
    html, _ = page(generate(6, differing=2), here)
    (here / "build").rename(here / "gone")
    assert render("example").read_text(encoding="utf-8") == html
    # Ids of drawings or of objects must not depend on the process: no hexadecimal address, no date.
    assert not re.search(r"0x[0-9a-f]{8,}", html)


def test_rendering_opens_no_connection(here, monkeypatch):
    generate(2).write(here)
    compare(profile(), "example", params())
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a connection was opened"))
    render("example")


def test_another_title_needs_no_other_comparison(here):
    _, read = page(generate(2), here)
    (here / "profiles").mkdir()
    content = profile(title="A new title").model_dump(mode="json")
    (here / "profiles" / "example.yaml").write_text(yaml.safe_dump(content))
    before = read_json(here / "reports" / "example" / "context.json")
    read = check(render("example").read_text(encoding="utf-8"))
    assert "A new title" in read.text
    assert read_json(here / "reports" / "example" / "context.json") == before


def test_nothing_to_show_is_said_in_a_sentence(here):
    with pytest.raises(UserError, match="holds no results to show: run make reproduce PROFILE=missing"):
        render("missing")
    assert not (here / "reports").exists()


def test_files_of_another_version_are_refused(here):
    page(generate(2), here)
    path = here / "reports" / "example" / "context.json"
    write_json(path, read_json(path) | {"format": 99})
    with pytest.raises(UserError, match="another version"):
        render("example")


def test_the_departure_from_the_notebook_is_stated_as_it_was(here):
    made = generate(2)
    _, read = page(made, here)
    assert "this one ran under torch.no_grad" in read.text
    assert "PyTorch PR 165068" in read.text
    path = here / "reports" / "example" / "context.json"
    context = read_json(path)
    context["profile"]["content"]["measure"]["baseline"] |= {"grad_mode": "inference", "reorder_fix": True}
    write_json(path, context)
    read = check(render("example").read_text(encoding="utf-8"))
    assert "flatters us" in read.text
    assert "The profile also asks for the notebook's reorder fix in the baseline." in read.text


def test_results_of_an_older_compare_still_render(here):
    page(generate(4, differing=1), here)
    folder = here / "reports" / "example"
    (folder / "evidence.jsonl").unlink()
    context, metrics = read_json(folder / "context.json"), read_json(folder / "metrics.json")
    del context["rescoring"]
    write_json(folder / "context.json", context)
    newer = ("rounding_ties", "better", "worse", "not_judged", "token_s")
    write_json(folder / "metrics.json", {key: v for key, v in metrics.items() if not key.endswith(newer)})
    read = check(render("example").read_text(encoding="utf-8"))
    assert "these results hold no recordings" in read.text


def test_launch_configurations_and_throttling_are_shown(here):
    made = generate(3, cuda=True)
    made.about["fused"]["settings"]["launch"] = {"fc1": {"block_n": 16, "warps": 4}}
    made.about["fused"]["conditions"]["after"]["throttling"] = ["software power cap"]
    _, read = page(made, here)
    assert "Launch configuration of Fused's kernels fc1.block_n 16 fc1.warps 4" in read.text
    assert "none then software power cap" in read.text
    assert "The GPU was throttled while Fused ran (software power cap)." in read.text


def test_several_engines(here):
    made = generate(4, differing=1)
    made.results["other"], made.about["other"] = made.results["fused"], made.about["fused"] | {"engine": "other"}
    made.write(here)
    both = params().model_copy(update={"engines": ["other", "fused"]})
    compare(profile(), "example", both)
    read = check(render("example").read_text(encoding="utf-8"))
    assert "Fused transcribes" in read.text
    assert read.count("article") == 2
    assert read.count("select", id="card-engine") == 1


def test_a_run_that_was_interrupted_says_so(here):
    made = generate(13)
    sessions = [{"rows": rows, "started": f"2026-11-2{rows}T05:00:00+00:00", "conditions": {}} for rows in (3, 4)]
    made.about["fused"]["resumed_from"] = sessions
    _, read = page(made, here)
    assert "Interrupted, and continued" in read.text
    assert (
        "Fused: 7 of 13 utterances were timed in 2 earlier processes, from 2026-11-23T05:00:00+00:00 on." in read.text
    )
    assert "An utterance keeps the time it was decoded with" in read.text
    _, read = page(generate(13), here)
    assert "Interrupted" not in read.text
