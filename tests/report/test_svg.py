import pytest

from whisper_speedup.report.svg import inline

DRAWING = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" viewBox="0 0 9 9">
<metadata>2026-11-23</metadata><defs><style>*{stroke-linejoin: round}</style><path id="m1" d="M 0 0"/></defs>
<g clip-path="url(#p1)"><use xlink:href="#m1" style="stroke: #000011; stroke-width: 0.8; fill: none"/></g>
<text style="font: 9px 'DejaVu Sans'; fill: #000001; text-anchor: middle">a &lt;b&gt; &amp; c</text></svg>"""


@pytest.fixture
def drawing():
    return inline(DRAWING, "plot", 'say "this" <b>')


def test_nothing_inline_is_left(drawing):
    for forbidden in ("style", "xlink", "metadata", "2026", "#000011", "#000001", "DejaVu", "<?xml"):
        assert forbidden not in drawing


def test_colours_become_classes_and_the_rest_attributes(drawing):
    assert 'class="stroke-engine1"' in drawing
    assert 'stroke-width="0.8"' in drawing
    assert 'fill="none"' in drawing
    assert 'class="fill-ink"' in drawing
    assert 'font-size="9"' in drawing
    assert 'text-anchor="middle"' in drawing


def test_ids_and_what_points_to_them_carry_the_prefix(drawing):
    assert 'id="plot-m1"' in drawing
    assert 'href="#plot-m1"' in drawing
    assert "url(#plot-p1)" in drawing


def test_text_stays_escaped(drawing):
    assert "a &lt;b&gt; &amp; c" in drawing
    assert 'aria-label="say &quot;this&quot; &lt;b&gt;"' in drawing
