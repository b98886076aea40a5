from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_speedup.audio import clips
from whisper_speedup.audio.clips import one_line, optional


@given(st.text(alphabet=st.characters(codec=None)))
def test_one_line_is_one_line_of_utf8(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.encode("utf-8").decode() == line == one_line(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\u2028b", "a b"), ("a\x85 \n b ", "a b"), ("na\udcefve", "na\\udcefve"), ("\ud800", "\\ud800"), (3, "3")],
)
def test_one_line(text: object, line: str) -> None:
    assert one_line(text) == line


def test_optional_takes_blank_for_none() -> None:
    assert optional(None) is None
    assert optional(" \n") is None
    assert optional(" ten\nof clubs ") == "ten of clubs"


def test_reader_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100)
    assert len(clips.reader(tmp_path / "large")()) == 100
    monkeypatch.setattr(clips, "MAX_BYTES", 10)
    assert len(clips.reader(tmp_path / "large")()) == 11
