import base64
import io
import struct
import zlib

import numpy as np
import pytest
import soundfile

from whisper_speedup.audio import manifest
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.evidence import evidence, worst_first
from whisper_speedup.compare.log_mel import LEVELS, WIDTH, picture
from whisper_speedup.params.sources import Folder


def row(name="a", same_text=False, verdict=None, words=1, gap=None):
    made = Difference.model_construct(id=name, same_text=same_text, verdict=verdict, words_apart=words, gap=gap)
    return made.but(characters_apart=None)


def test_the_worst_comes_first():
    rows = [
        row("tokens", same_text=True, words=0), row("tie", verdict="rounding tie", words=9), row("unknown"),
        row("few", verdict="worse"), row("many", verdict="worse", words=3),
        row("far", verdict="worse", gap=-0.5),
    ]  # fmt: skip
    assert [one.id for one in sorted(rows, key=worst_first)] == ["many", "far", "few", "unknown", "tie", "tokens"]


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name, seconds in {"a": 1, "b": 4, "c": 1}.items():
        time = np.arange(16000 * seconds) / 16000
        soundfile.write(tmp_path / "mine" / f"{name}.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 16000)
    manifest.prepare(Folder(source="folder", path="mine"), tmp_path / "data")
    return tmp_path / "data" / "manifest.jsonl"


def test_a_recording_is_an_mp3_that_plays_and_a_picture(recordings):
    (found,) = evidence([row("b"), row("b", same_text=True)], read_manifest(recordings), recordings)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found.audio)))
    assert rate == 16000
    assert 4 <= len(samples) / rate < 4.2
    assert len(found.audio) < 30_000
    assert base64.b64decode(found.log_mel).startswith(b"\x89PNG")
    assert [found] == evidence([row("b")], read_manifest(recordings), recordings)


def test_the_cap_leaves_out_what_does_not_fit_and_says_so(recordings):
    (small,) = evidence([row("a")], read_manifest(recordings), recordings)
    cap = 2 * (len(small.audio) + len(small.log_mel))
    rows = [row("b", words=3), row("a", words=2), row("c")]
    found = evidence(rows, read_manifest(recordings), recordings, cap_bytes=cap)
    assert [(one.id, one.audio is None) for one in found] == [("b", True), ("a", False), ("c", False)]
    assert "for recordings are used up" in found[0].left_out


def decoded(png):
    """Width, height and the palette indices (rows, columns)."""
    width, height = struct.unpack(">II", png[16:24])
    start = png.index(b"IDAT")
    size = struct.unpack(">I", png[start - 4 : start])[0]
    raw = np.frombuffer(zlib.decompress(png[start + 4 : start + 4 + size]), np.uint8).reshape(height, width + 1)
    return width, height, raw[:, 1:]


def test_a_low_tone_is_bright_at_the_bottom_of_the_picture():
    tone = (0.3 * np.sin(2 * np.pi * 200 * np.arange(5 * 16000) / 16000)).astype(np.float32)
    width, height, indices = decoded(picture(tone))
    assert (width, height) == (WIDTH, 80)
    assert indices[-12:].max() == LEVELS - 1
    assert indices[:60].mean() < indices[-12:].mean()


def test_silence_and_a_very_short_clip():
    for samples in (np.zeros(16000, np.float32), np.zeros(200, np.float32)):
        width, height, indices = decoded(picture(samples))
        assert height == 80
        assert width >= 1
        assert indices.max() == 0
