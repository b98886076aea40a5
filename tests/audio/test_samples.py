import shutil
from pathlib import Path

import pytest

from whisper_speedup.audio.decode import decode
from whisper_speedup.audio.samples import open_samples
from whisper_speedup.errors import UserError
from whisper_speedup.params.sources import Samples

FOLDER = Path(__file__).parents[2] / "samples"


def samples(*clips: str) -> Samples:
    return Samples(source="samples", clips=list(clips) or None)


def test_thirteen_real_recordings_ship() -> None:
    clips = open_samples(samples(), FOLDER)
    assert len(clips) == 13
    seconds = 0.0
    for clip in clips:
        waveform = decode(clip.read())
        assert 1 < waveform.duration_s < 8
        assert 0.05 < abs(waveform.samples).max() <= 1
        seconds += waveform.duration_s
        assert clip.reference
        assert clip.reference == clip.reference.lower().strip()
        assert "<" not in clip.reference
    assert seconds == pytest.approx(44.2, abs=0.1)


def test_a_choice_keeps_the_order_of_the_listing() -> None:
    assert [clip.id for clip in open_samples(samples("goforward", "cards-002"), FOLDER)] == ["cards-002", "goforward"]


def test_an_unknown_clip_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'cards-009', which is no sample: choose from cards-001, "):
        open_samples(samples("cards-001", "cards-009"), FOLDER)


def test_a_changed_or_missing_recording_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "samples")
    flac = tmp_path / "samples" / "numbers.flac"
    flac.write_bytes(flac.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"numbers\.flac is missing or not the recording that shipped"):
        open_samples(samples(), tmp_path / "samples")
    flac.unlink()
    with pytest.raises(UserError, match=r"numbers\.flac is missing"):
        open_samples(samples("numbers"), tmp_path / "samples")
    assert len(open_samples(samples("goforward"), tmp_path / "samples")) == 1


def test_a_missing_or_damaged_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_samples(samples(), tmp_path)
    (tmp_path / "transcripts.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match=r"entry 1, is not a transcript"):
        open_samples(samples(), tmp_path)
