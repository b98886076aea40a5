import pytest

from whisper_speedup.report import plots

LABELS = {"huggingface": "Hugging Face", "fused": "Fused", "other": "Other"}
ENGINES = ["huggingface", "fused"]


def latency(*pairs):
    return [
        {"engines": {name: {"seconds": value} for name, value in zip(ENGINES, pair, strict=True)}} for pair in pairs
    ]


SOME = latency((1.0, 0.4), (2.0, 0.5), (3.0, None))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: plots.distribution(rows, ENGINES, LABELS),
        lambda rows: plots.scatter(rows, "huggingface", ["fused"], LABELS),
        lambda rows: plots.memory({"Hugging Face": 2.0**30, "Fused": None}, "Peak."),
    ],
)
def test_the_same_rows_give_the_same_bytes_in_the_page_s_colours(draw):
    first = draw(SOME).svg
    assert first == draw(SOME).svg
    assert "style=" not in first
    assert 'fill="#' not in first
    assert 'stroke="#' not in first
    assert "engine0" in first or "engine1" in first


def test_nothing_to_draw():
    nothing = latency((None, None))
    assert plots.distribution(nothing, ENGINES, LABELS) is None
    assert plots.scatter(nothing, "huggingface", ["fused"], LABELS) is None
    assert plots.scatter(latency((1.0, None), (None, 1.0)), "huggingface", ["fused"], LABELS) is None
    assert plots.memory({"Fused": None}, "Peak.") is None


def test_one_utterance_and_one_engine_alone():
    one = latency((1.0, 0.4))
    assert plots.distribution(one, ENGINES, LABELS) is not None
    assert plots.scatter(one, "huggingface", ["fused"], LABELS) is not None
    assert plots.distribution(latency((1.0, None)), ENGINES, LABELS) is not None


def test_each_utterance_is_one_mark():
    drawing = plots.scatter(latency((1.0, 0.4), (2.0, 0.5), (4.0, 3.0)), "huggingface", ["fused"], LABELS).svg
    assert drawing.count('class="fill-engine1"') >= 3
    assert "equal time" in drawing


def test_memory_names_its_units_and_what_is_missing():
    drawing = plots.memory({"Hugging Face": 2.0**30, "Fused": None}, "Peak.").svg
    assert "1.00 GiB" in drawing
    assert "not measured" in drawing
