"""What the page says of rounds, energy and the conditions sampled during a run; and that it does without them."""

import re
import xml.etree.ElementTree as ET

import pytest
from generated_rounds import DURING, GPU_DURING, some_seconds, write_rounds
from generated_runs import generate, params, profile
from html_check import Page

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json
from whisper_speedup.report import render
from whisper_speedup.report.charts import canvas
from whisper_speedup.report.charts.rounds import Span, rounds
from whisper_speedup.report.rounds import rounds as part

SPANS = [Span("rounds", 3.0, 2.9, 3.1), Span("utterances", 2.8, 2.5, 3.2)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_page(made, here, seconds=None, **changes):
    made.write(here)
    if seconds:
        write_rounds(here, made, seconds, **changes)
    folder = compare(profile(), "example", params())
    context, metrics = read_json(folder / "context.json"), read_json(folder / "metrics.json")
    return Page(render("example").read_text(encoding="utf-8")), context, metrics


@pytest.mark.parametrize("speedups", [[3.0, 3.0], [2.95, 3.05, 2.9, 40.0], [3 + n / 1000 for n in range(200)]])
def test_every_mark_lies_in_the_frame_and_no_text_leaves_the_picture(speedups):
    root = ET.fromstring(rounds("Fused", 1, speedups, SPANS).svg)
    for path in root.iter("path"):
        for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)", path.get("d")):
            assert canvas.LEFT - 8 <= float(x) <= canvas.RIGHT + 8
            assert canvas.TOP - 8 <= float(y) <= canvas.BOTTOM + 8
    for element in root.iter("text"):
        x, half = float(element.get("x")), 3.6 * len(element.text)
        if element.get("text-anchor") == "middle":
            assert x - half >= 0
            assert x + half <= canvas.WIDTH
    assert root.get("aria-label").startswith(f"Speed of Fused in {len(speedups)} rounds")


def test_lines_stand_between_starts():
    root = ET.fromstring(rounds("Fused", 1, [3.0] * 8, SPANS, starts=4).svg)
    between = [path.get("d") for path in root.iter("path") if path.get("class") == "between"]
    assert len(between) == 1
    assert between[0].count("M") == 3
    assert root.get("aria-label").startswith("Speed of Fused in 8 rounds after 4 starts: ")


def test_a_dot_a_round_at_its_own_speed():
    root = ET.fromstring(rounds("Fused", 1, [2.0, 3.0, 4.0], SPANS).svg)
    titles = [element.text for element in root.iter("{*}title")] or [element.text for element in root.iter("title")]
    assert titles[:3] == [f"round {n}: {n + 1}.00\N{MULTIPLICATION SIGN}" for n in (1, 2, 3)]
    assert titles[3:] == [
        "rounds: 3.00\N{MULTIPLICATION SIGN}, 95% interval 2.90 to 3.10",
        "utterances: 2.80\N{MULTIPLICATION SIGN}, 95% interval 2.50 to 3.20",
    ]
    dots = next(group for group in root.iter("g") if len(group) == 3)
    heights = [float(re.match(r"M[\d.]+ ([\d.]+)", mark.get("d"))[1]) for mark in dots]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert heights[0] > heights[2]  # slower is lower on the page


def test_an_interval_that_is_not_known_is_no_bar():
    drawing = rounds("Fused", 1, [3.0, 3.1], [Span("rounds", 3.05, None, None), SPANS[1]])
    assert drawing.svg.count('class="line') == 2  # the other's bar and its ends


def test_the_page_shows_both_intervals_apart_and_says_what_each_means(here):
    made = generate(13)
    read, context, metrics = made_page(made, here, some_seconds(made))
    value, low, high = (metrics[f"fused.speedup_rounds{end}"] for end in ("", "_low", "_high"))
    in_turns = f"in turns {value:.2f}\N{MULTIPLICATION SIGN}, {low:.2f} to {high:.2f}"
    for words in (
        "In each of 8 rounds every engine decoded the same 4 utterances, one engine at a time",
        "The interval over rounds is where the speed of another such run, of these utterances on this machine, is to",
        "The interval over utterances, from the pass over the whole set, says how far it would move with other",
        "Fused, round by round",
        in_turns,
        "Hugging Face, in turns 2,900 (2,890 to 2,905) 0.1 (0 to 0.7)",
    ):  # fmt: skip
        assert words in read.text
    assert read.count("svg", role="img") == 4
    found = part(context, metrics)
    table = {column.title: column.cells for column in found.table}
    ours = context["comparisons"]["fused"]["rounds"]
    assert table["Fastest round"][1] == f"{min(ours['engine_s']):.2f}"
    assert table["Slowest round"][0] == f"{max(ours['baseline_s']):.2f}"
    assert table["95% over rounds"][0] == "\N{EN DASH}"


def test_the_page_says_how_often_all_were_started(here):
    made = generate(13)
    read, context, metrics = made_page(made, here, some_seconds(made), starts=4)
    for words in (
        "All engines were started 4 times, and after each start, in each of 2 rounds, every engine decoded the same",
        "The interval over starts and their rounds is where the speed of another such run,",
        "Drawn are starts of all processes and the rounds of each",
    ):
        assert words in read.text
    assert "95% over starts and rounds" in {column.title for column in part(context, metrics).table}


def test_who_was_left_out_is_said_above_the_numbers(here):
    made = generate(5)
    made.results["other"], made.about["other"] = made.results["fused"], made.about["fused"] | {"engine": "other"}
    made.write(here)
    seconds = {engine: rows for engine, rows in some_seconds(made).items() if engine != "other"}
    write_rounds(here, made, seconds, left_out={"other": "other needs 60 GiB of GPU memory."})
    compare(profile(), "example", params().model_copy(update={"engines": ["fused", "other"]}))
    read = Page(render("example").read_text(encoding="utf-8"))
    assert "Other took no turns in the rounds: Other needs 60 GiB of GPU memory." in read.text
    assert "Other, round by round" not in read.text


def test_rounds_that_cannot_tell_them_apart_are_heard(here):
    made = generate(13)
    same = {engine: some_seconds(made)["fused"] for engine in made.results}
    same["fused"] = [[value * (0.98 + 0.01 * n) for value in row] for n, row in enumerate(same["fused"][:5])]
    same["huggingface"] = same["huggingface"][:5]
    read, _, _ = made_page(made, here, same)
    assert "cannot be told apart in speed" in read.text


def test_a_page_without_rounds_or_energy_does_not_speak_of_them(here):
    read, context, metrics = made_page(generate(5), here)
    assert "Taking turns" not in read.text
    assert "Energy" not in read.text
    assert part(context, metrics) is None


def test_energy_and_the_gpu_s_own_clock(here):
    made = generate(5, cuda=True)
    for engine, about in made.about.items():
        about["conditions"]["during"] = dict(GPU_DURING)
        for row in made.results[engine]:
            row["device_seconds"] = [0.99 * row["seconds"][0]]
    made.about["fused"]["energy"] = {"joules": 1800.0, "seconds": 60.0, "audio_s": 1000.0}
    read, _, _ = made_page(made, here)
    assert "Energy, GPU board Wh for an hour of audio" in read.text
    assert "1.80" in read.text
    assert "1,980 (1,755 to 1,980) 2,619 318 (210 to 402) 51 (44 to 53) none 99.0" in read.text


def test_throttling_that_was_sampled(here):
    made = generate(5, cuda=True)
    for about in made.about.values():
        about["conditions"]["during"] = GPU_DURING | {"throttling": {"software power cap": 12}}
    read, _, _ = made_page(made, here)
    assert "software power cap (12 of 80)" in read.text
    assert "The GPU was throttled while Fused ran (software power cap in 12 of 80 samples)." in read.text


def test_a_machine_that_others_used(here):
    made = generate(5)
    made.about["fused"]["conditions"]["during"] = DURING | {"others_cores": {"min": 0.5, "median": 0.9, "max": 1.7}}
    read, _, _ = made_page(made, here)
    assert "busy with other work while Fused ran (0.9 of 2 cores at the median, 1.7 at most)." in read.text
