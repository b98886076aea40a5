import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whisper_speedup.audio.manifest import MANIFEST, _file_name, load_audio, prepare, to_flac
from whisper_speedup.audio.row import Row, read_manifest
from whisper_speedup.disk.files import sha256
from whisper_speedup.errors import UserError
from whisper_speedup.params.sources import Folder, Samples, Variations

ROOT = Path(__file__).parents[2]
KEYS = ["id", "audio", "sha256", "duration_s", "sampling_rate", "reference", "speaker", "cut_from_s", "error"]
STRESS = Variations(noise_snr_db=[10, 0], speeds=[0.9], seed=0)
Tone = Callable[..., np.ndarray]
Encode = Callable[..., bytes]


def content(folder: Path) -> dict[str, str]:
    """{relative path: SHA-256} of every file."""
    return {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def speech(tmp_path: Path, tone: Tone, encode: Encode) -> Path:
    """A user's folder with something odd of every kind."""
    root = tmp_path / "speech"
    root.mkdir()
    (root / "plain.wav").write_bytes(encode(tone(0.5)))
    (root / "plain.txt").write_text("ten of clubs\n")
    (root / "stereo.ogg").write_bytes(encode(np.stack([tone(0.5, 22_050)] * 2, axis=1), 22_050, "OGG"))
    (root / "long.mp3").write_bytes(encode(tone(31), container="MP3"))
    (root / "Łódź 😀 ..%2f.flac").write_bytes(encode(tone(0.5), container="FLAC"))
    (root / "cut.wav").write_bytes(encode(tone(0.5))[:-100])
    (root / "empty.wav").write_bytes(b"")
    return root


def folder(path: Path, variations: Variations | None = None) -> Folder:
    return Folder(source="folder", path=str(path), variations=variations)


def test_rows_and_files(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "build" / "data"
    rows = prepare(folder(speech), out)
    assert [list(json.loads(line)) for line in (out / MANIFEST).read_text().splitlines()] == [KEYS] * 6
    assert read_manifest(out / MANIFEST) == rows
    by_id = {row.id: row for row in rows}
    assert list(by_id) == ["cut", "empty", "long", "plain", "stereo", "Łódź 😀 ..%2f"]
    assert by_id["plain"].reference == "ten of clubs"
    assert by_id["plain"].duration_s == 0.5
    assert by_id["long"].duration_s == 30
    assert by_id["long"].cut_from_s == pytest.approx(31)
    assert by_id["stereo"].cut_from_s is None
    for row in rows:
        assert (row.audio is None) == (row.error is not None)
        if row.audio:
            info = soundfile.info(out / row.audio)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
            assert len(load_audio(out / MANIFEST, row)) == info.frames == round(row.duration_s * 16_000)
    assert {p.parent.name for p in out.rglob("*.flac")} == {"audio"}


def test_a_bad_clip_keeps_its_row_with_one_sentence(speech: Path, tmp_path: Path) -> None:
    rows = {row.id: row for row in prepare(folder(speech, STRESS), tmp_path / "data")}
    assert len(rows) == 2 + 4 * 4
    assert rows["cut"].error == (
        "cut.wav is truncated (its header promises 16000 bytes of samples, and it holds 15900): "
        "copy it again from the original."
    )
    assert rows["empty"].error == "empty.wav is an empty file: replace it."
    assert rows["empty"].duration_s == 0
    with pytest.raises(UserError, match="empty has no audio"):
        load_audio(tmp_path / "data" / MANIFEST, rows["empty"])


def test_the_same_source_gives_the_same_bytes(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = Samples(source="samples", clips=["cards-001", "goforward"], variations=STRESS)
    for data in (folder(speech, STRESS), shipped):
        prepare(data, tmp_path / "a")
        prepare(data, tmp_path / "b")
        assert content(tmp_path / "a") == content(tmp_path / "b")
        prepare(data, tmp_path / "a")
        assert content(tmp_path / "a") == content(tmp_path / "b")


def test_other_clips_do_not_change_a_clips_bytes(speech: Path, tmp_path: Path) -> None:
    before = {row.id: row for row in prepare(folder(speech, STRESS), tmp_path / "a")}
    (speech / "long.mp3").unlink()
    for row in prepare(folder(speech, STRESS), tmp_path / "a"):
        assert row == before[row.id]


def test_shipped_samples_pass_through_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rows = prepare(Samples(source="samples"), tmp_path / "data")
    assert len(rows) == 13
    for row in rows:
        original, _ = soundfile.read(ROOT / "samples" / f"{row.id}.flac", dtype="float32")
        assert np.array_equal(load_audio(tmp_path / "data" / MANIFEST, row), original)


def test_variations_keep_reference_and_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rows = prepare(Samples(source="samples", clips=["cards-001"], variations=STRESS), tmp_path / "data")
    assert [row.id for row in rows] == [
        "cards-001", "cards-001+noise10db", "cards-001+noise0db", "cards-001+speed0.9",
    ]  # fmt: skip
    assert {(row.reference, row.speaker) for row in rows} == {("ten of clubs", "cards")}
    assert len({row.sha256 for row in rows}) == 4


def test_a_failed_run_leaves_what_was_there(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "build" / "data"
    prepare(folder(speech), out)
    before = content(tmp_path / "build")
    for name in ("plain.wav", "stereo.ogg", "long.mp3", "Łódź 😀 ..%2f.flac"):
        (speech / name).write_bytes(b"no audio")
    with pytest.raises(UserError, match=r"none of the 6 clips can be decoded, the first because .*cut\.wav is trunc"):
        prepare(folder(speech), out)
    with pytest.raises(UserError, match="does not exist"):
        prepare(folder(speech / "nowhere"), out)
    assert content(tmp_path / "build") == before
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["data"]


def test_an_interrupted_run_leaves_nothing(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: np.ndarray) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("whisper_speedup.audio.manifest.to_flac", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder(speech), tmp_path / "build" / "data")
    assert list((tmp_path / "build").iterdir()) == []


def test_what_a_killed_run_left_goes_at_the_next(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "build" / ".data.tmp" / "audio").mkdir(parents=True)
    (tmp_path / "build" / ".data.tmp" / "audio" / "stale.flac").write_bytes(b"")
    prepare(folder(speech), tmp_path / "build" / "data")
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["data"]
    assert not list(tmp_path.rglob("stale.flac"))


@pytest.mark.parametrize(
    "doubled", [{"noise_snr_db": [10, 10], "speeds": []}, {"noise_snr_db": [], "speeds": [1, 1.0]}]
)
def test_a_variation_given_twice(speech: Path, tmp_path: Path, doubled: dict[str, list[float]]) -> None:
    variations = Variations.model_validate({**doubled, "seed": 0})
    with pytest.raises(UserError, match=r"2 utterances are called 'long\+(noise10db|speed1)'"):
        prepare(folder(speech, variations), tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": ""}, "id"),
        ({"audio": "/etc/passwd"}, "audio"),
        ({"audio": "audio/../../x.flac"}, "audio"),
        ({"audio": None}, "either audio and sha256, or an error"),
        ({"error": "no"}, "either audio and sha256, or an error"),
        ({"sha256": "abc"}, "sha256"),
        ({"duration_s": -1.0}, "duration_s"),
        ({"duration_s": "1"}, "duration_s"),
        ({"sampling_rate": 8000}, "sampling_rate"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_rows_that_prepare_did_not_write(tmp_path: Path, change: dict[str, object], why: str) -> None:
    row = {
        **dict.fromkeys(KEYS),
        **{"id": "a", "audio": "audio/a.flac", "sha256": "0" * 64, "duration_s": 1.0, "sampling_rate": 16_000},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(row))
    assert isinstance(read_manifest(tmp_path / MANIFEST)[0], Row)
    (tmp_path / MANIFEST).write_text(json.dumps(row) + "\n" + json.dumps(row | change))
    with pytest.raises(UserError, match=rf"row 2: .*{why}.*: delete the file and run dvc repro") as caught:
        read_manifest(tmp_path / MANIFEST)
    assert len(str(caught.value).splitlines()) == 1


def test_audio_that_changed_or_went(speech: Path, tmp_path: Path) -> None:
    rows = prepare(folder(speech), tmp_path / "data")
    row = next(row for row in rows if row.id == "plain")
    path = tmp_path / "data" / str(row.audio)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="another SHA-256"):
        load_audio(tmp_path / "data" / MANIFEST, row)
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        load_audio(tmp_path / "data" / MANIFEST, row)


@given(st.text(min_size=1), st.text(min_size=1))
def test_file_names_are_safe_and_differ(one: str, other: str) -> None:
    for name in (one, other):
        file = _file_name(name.encode("utf-8", "replace").decode())
        assert file.isascii()
        assert len(file) < 100
        assert Path(file).name == file
        assert not file.startswith(".")
        Row(
            id=name, audio=f"audio/{file}", sha256="0" * 64, duration_s=1.0, sampling_rate=16_000,
            reference=None, speaker=None, cut_from_s=None, error=None,
        )  # fmt: skip
    if one.encode("utf-8", "replace") != other.encode("utf-8", "replace"):
        assert _file_name(one).lower() != _file_name(other).lower()


@pytest.mark.parametrize("peak", [0.5, 1.0, 1.7, 1e30])
def test_loud_clips_are_turned_down_and_not_clipped(tone: Tone, peak: float) -> None:
    samples = tone(0.1) * np.float32(3 * peak)
    pcm = to_flac(samples)
    decoded, _ = soundfile.read(io.BytesIO(pcm), dtype="float32")
    assert np.abs(decoded).max() == pytest.approx(min(peak, 1.0), abs=0.01)
    assert decoded == pytest.approx(samples / max(1.0, np.abs(samples).max()), abs=2 / 32768)


def test_silence_is_a_clip(tmp_path: Path, encode: Encode) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "silence.wav").write_bytes(encode(np.zeros(1600)))
    rows = prepare(folder(tmp_path / "in", STRESS), tmp_path / "data")
    assert [row.error for row in rows] == [None] * 4


def test_a_note_is_kept_and_a_row_without_one_is_as_before(
    tmp_path: Path, tone: Tone, encode: Encode, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp3").write_bytes(encode(tone(0.5), container="MP3") * 2)
    (tmp_path / "in" / "b.wav").write_bytes(encode(tone(0.5)))
    (tmp_path / "in" / "c.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "in" / "d.ogg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "notes.doc").touch()
    rows = {row.id: row for row in prepare(folder(tmp_path / "in", STRESS), tmp_path / "data")}
    note = "a.mp3 holds 2 recordings one after another (0.5 s, 0.5 s): they were joined."
    assert {rows[name].note for name in ("a", "a+noise10db", "a+speed0.9")} == {note}
    assert (rows["b"].note, rows["a"].duration_s) == (None, 1.0)
    assert (
        rows["c"].error == "c.mp4 is MP4, M4A or 3GP, which cannot be read here: convert it with ffmpeg -i IN OUT.wav."
    )
    assert rows["d"].error == "d.ogg cannot be read (No such file or directory): it is a link to nothing."
    written = [json.loads(line) for line in (tmp_path / "data" / MANIFEST).read_text().splitlines()]
    assert [list(row) for row in written if row["id"] in ("a", "b")] == [[*KEYS, "note"], KEYS]
    assert read_manifest(tmp_path / "data" / MANIFEST) == list(rows.values())
    assert capfd.readouterr().err.splitlines()[-1] == (
        "data: 4 recordings, 2 cannot be read, 1 with a note, 4 without a transcript, "
        "1 file passed over: 1 .doc (notes.doc)"
    )


def test_the_data_stage_of_the_samples_ends_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    prepare(Samples(source="samples", clips=["cards-001"]), tmp_path / "data")
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == "data: 1 of 13 recordings, 0 without a transcript, 0 files passed over"
