import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from whisper_speedup.compare.latency import Heard, Latency
from whisper_speedup.report.charts import bars, canvas, times

LABELS = {"huggingface": "Hugging Face", "fused": "Fused"}
ENGINES = ["huggingface", "fused"]


def latency(*pairs, tokens=None):
    return [
        Latency(
            id=f"clip <{number}> & co", duration_s=1.0, cut_from_s=None, reference=None, error=None,
            engines={
                name: Heard(seconds=value, tokens=(tokens[number] if tokens else 10) if value else None)
                for name, value in zip(ENGINES, pair, strict=True)
            },
        )
        for number, pair in enumerate(pairs)
    ]  # fmt: skip


SOME = latency((1.0, 0.4), (2.0, 0.5), (3.0, None), (4.0, 0.7), (5.0, 0.8), (7.0, 1.0), tokens=[4, 8, 12, 16, 20, 30])
DRAWN = {
    "scatter": lambda rows: times.scatter(rows, "huggingface", ["fused"], LABELS),
    "distribution": lambda rows: times.distribution(rows, ENGINES, LABELS),
    "tokens": lambda rows: times.tokens(rows, ENGINES, LABELS, times.Floor(0.01)),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_drawing_is_whole_svg_without_styles_of_its_own_and_the_same_each_time(draw):
    drawing = draw(SOME)
    root = ET.fromstring(drawing.svg)
    assert draw(SOME).svg == drawing.svg
    assert root.get("role") == "img"
    assert len(root.get("aria-label")) > 20
    for element in root.iter():
        assert not {"style", "fill", "stroke", "id"} & set(element.attrib)


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_no_text_leaves_the_picture(draw):
    root = ET.fromstring(draw(SOME).svg)
    for element in root.iter("text"):
        x, y, width = float(element.get("x")), float(element.get("y")), 7.6 * len(element.text)
        left = x - {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
        assert left >= -12, element.text
        assert left + width <= canvas.WIDTH + 12, element.text
        assert 0 < y <= canvas.HEIGHT


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_marks_lie_in_the_frame(draw):
    root = ET.fromstring(draw(SOME).svg)
    places = [place for path in root.iter("path") for place in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d"))]
    assert len(places) > 10
    for x, y in places:
        assert canvas.LEFT - 6 <= float(x) <= canvas.RIGHT + 6
        assert canvas.TOP - 6 <= float(y) <= canvas.BOTTOM + 6


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_nothing_to_draw(draw):
    assert draw(latency((None, None))) is None
    assert draw([]) is None


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_one_utterance(draw):
    assert draw(latency((1.0, 0.4))) is not None


def test_each_utterance_is_one_mark_with_its_name():
    root = ET.fromstring(DRAWN["scatter"](SOME).svg)
    names = [title.text for title in root.iter("title")]
    assert len(names) == 5
    assert names[0] == "clip <0> & co: 1.00 s, 400 ms, 2.50\N{MULTIPLICATION SIGN}"


def test_many_utterances_are_one_path_of_dots():
    drawing = times.scatter(latency(*[(1 + n / 1000, 0.5) for n in range(1000)]), "huggingface", ["fused"], LABELS)
    assert drawing.svg.count("h0") == 1000
    assert "<title>" not in drawing.svg
    assert len(drawing.svg) < 20_000


def test_the_lines_of_equal_time_are_drawn_as_far_as_they_show():
    wide = DRAWN["scatter"](latency((1.0, 1.2), (10.0, 0.6), (20.0, 1.0))).svg
    for label in ("equal time", "2\N{MULTIPLICATION SIGN} as fast", "10\N{MULTIPLICATION SIGN} as fast"):
        assert label in wide
    assert "10\N{MULTIPLICATION SIGN} as fast" not in DRAWN["scatter"](latency((1.0, 1.2), (1.1, 1.0))).svg


def test_labels_of_two_lines_that_leave_close_together_stand_in_two_rows():
    root = ET.fromstring(DRAWN["scatter"](latency((2.5, 2.0), (300.0, 2.5))).svg)
    at = {t.text: float(t.get("y")) for t in root.iter("text") if t.get("class") == "note"}
    assert at["equal time"] != at["2\N{MULTIPLICATION SIGN} as fast"]


def test_the_floor_is_drawn_where_it_is_known():
    drawing = DRAWN["tokens"](SOME)
    assert drawing.floor == "floor, 10.0 ms a token"
    assert 'class="floor"' in drawing.svg
    assert "floor" not in times.tokens(SOME, ENGINES, LABELS, None).svg


def test_the_slope_is_the_time_of_one_more_token():
    rows = latency(*[(0.5 + 0.1 * n, 0.2 + 0.01 * n) for n in range(6)], tokens=[10 * n + 10 for n in range(6)])
    assert times.fit(rows, "huggingface") == pytest.approx((0.01, 0.4))
    assert times.fit(rows[:3], "fused") is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 1.0, [0.1, 0.2, 0.5, 1.0]), (0.3, 0.9, [0.3, 0.5, 0.7]),
     (1.0, 4000.0, [1, 2, 5, 10, 20, 50, 60, 120, 300, 600, 1200, 3000, 3600])],
)  # fmt: skip
def test_ticks_of_a_log_scale_are_round_as_they_are_written(low, high, expected):
    assert canvas.time_ticks(canvas.Scale(low, high, 0, 1, log=True)) == pytest.approx(expected)


@pytest.mark.parametrize(("high", "expected"), [(50.0, [0, 10, 20, 30, 40, 50]), (0.7, [0, 0.2, 0.4, 0.6])])
def test_ticks_of_a_linear_scale_are_round(high, expected):
    assert canvas.ticks(canvas.Scale(0, high, 0, 1)) == pytest.approx(expected)
    assert canvas.ticks(canvas.Scale(0, 60 * high, 0, 1), unit=60) == pytest.approx([60 * value for value in expected])


def test_labels_that_would_touch_are_left_out():
    x, y = canvas.log_scale([0.1, 3000.0], canvas.LEFT, canvas.RIGHT), canvas.linear_scale(1, canvas.BOTTOM, canvas.TOP)
    labels = [(value, f"{value:g} seconds") for value in canvas.time_ticks(x)]
    drawn = ET.fromstring(canvas.svg(canvas.frame(x, y, labels, [], "", ""), "test"))
    ends = [(float(t.get("x")), 3.5 * len(t.text)) for t in drawn.iter("text") if t.text and "seconds" in t.text]
    assert 3 < len(ends) < len(labels)
    assert all(a + half < b - other for (a, half), (b, other) in itertools.pairwise(ends))


def test_one_utterance_that_took_very_long_does_not_flatten_the_others():
    rows = latency(*[(1 + n / 10, 0.5) for n in range(20)], (300.0, 0.5), tokens=range(1, 22))
    drawing = DRAWN["tokens"](rows)
    assert "1 utterance took longer than the picture is high." in drawing.caption
    assert ">1</text>" in drawing.svg  # a tick at one second


def test_a_bar_is_its_segments_one_after_the_other():
    root = ET.fromstring(bars.bar([bars.Segment("part0", 1), bars.Segment("part1", 2)], whole=4, start=1))
    rects = [(rect.get("class"), rect.get("x"), rect.get("width")) for rect in root.iter("rect")]
    assert rects == [("part0", "250", "250"), ("part1", "500", "500")]
    assert root.get("aria-hidden") == "true"
