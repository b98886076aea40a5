import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_speedup.audio import decode as module
from whisper_speedup.audio.decode import AudioError, decode, resample

Tone = Callable[..., np.ndarray]
Encode = Callable[..., bytes]


def pitch(samples: np.ndarray) -> float:
    """The strongest frequency in Hz, at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * 16_000 / len(samples)


def header(riff: bytes, **fields: int) -> bytes:
    """A plain WAV with some numbers of its header overwritten."""
    places = {"rate": (24, "<I"), "bits": (34, "<H"), "data_size": (40, "<I")}
    changed = bytearray(riff)
    for name, value in fields.items():
        offset, kind = places[name]
        struct.pack_into(kind, changed, offset, value)
    return bytes(changed)


def test_16_bit_mono_16_khz_comes_through_bit_for_bit(encode: Encode) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    for container in ("WAV", "FLAC"):
        waveform = decode(encode(pcm, container=container))
        assert np.array_equal(waveform.samples * 32768, pcm)
        assert waveform.samples.dtype == np.float32
        assert waveform.cut_from_s is None


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_rate_and_stereo_become_mono_16_khz(tone: Tone, encode: Encode, container: str, rate: int) -> None:
    mono = tone(1.5, rate)
    stereo = np.stack([mono, mono / 2], axis=1)
    waveform = decode(encode(stereo, rate, container))
    assert waveform.samples.ndim == 1
    assert len(waveform.samples) == pytest.approx(24_000, abs=8)
    assert pitch(waveform.samples) == pytest.approx(440, abs=1)
    assert np.abs(waveform.samples[4000:20_000]).max() == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_other_sample_formats(tone: Tone, encode: Encode, subtype: str) -> None:
    assert decode(encode(tone(0.5), subtype=subtype)).samples == pytest.approx(tone(0.5), abs=0.01)


@pytest.mark.parametrize("container", ["WAV", "OGG"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_over_30_s_is_cut_and_says_so(tone: Tone, encode: Encode, container: str, rate: int) -> None:
    waveform = decode(encode(tone(31, rate), rate, container))
    assert len(waveform.samples) == 480_000
    assert waveform.cut_from_s == pytest.approx(31, abs=1e-4)
    if container == "WAV":  # the resampler has not seen the cut
        assert waveform.samples == pytest.approx(resample(tone(31, rate), rate, 16_000)[:480_000], abs=1e-4)


def test_exactly_30_s_is_not_cut(tone: Tone, encode: Encode) -> None:
    waveform = decode(encode(tone(30)))
    assert len(waveform.samples) == 480_000
    assert waveform.cut_from_s is None


@pytest.mark.parametrize(("frames", "rate"), [(1, 16_000), (1, 48_000), (7, 22_050)])
def test_a_few_samples_are_still_a_clip(encode: Encode, frames: int, rate: int) -> None:
    assert len(decode(encode(np.full(frames, 0.1), rate)).samples) >= 1


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated_files_are_refused(encode: Encode, container: str, part: float) -> None:
    whole = encode(np.random.default_rng(0).normal(0, 0.1, 32_000), container=container)
    assert len(decode(whole).samples) == 32_000
    with pytest.raises(AudioError, match=r"is truncated|cannot be read as audio"):
        decode(whole[: int(len(whole) * part)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_wherever_they_are(tone: Tone, encode: Encode, bad: float) -> None:
    for position in (0, -1):
        samples = tone(31.5)
        samples[position] = bad
        with pytest.raises(AudioError, match="NaN or infinite"):
            decode(encode(samples, subtype="FLOAT"))


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_U8"), ("FLAC", "PCM_S8"), ("WAV", "ALAW")])
def test_a_telephones_8_bits_decode(tone: Tone, encode: Encode, container: str, subtype: str) -> None:
    data = encode(tone(1, 8000), 8000, container, subtype)
    assert decode(data).samples == pytest.approx(resample(tone(1, 8000), 8000, 16_000), abs=0.02)
    assert decode(data).note is None


def test_8_bits_in_a_header_of_two_bytes_a_sample_are_refused(tone: Tone, encode: Encode) -> None:
    with pytest.raises(AudioError, match="says 8 bits a sample in 2 bytes"):
        decode(header(encode(tone(1)), bits=8))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data_size": 0xF0000000 - 0x80000000}, "truncated"),
        ({"rate": 1_092_676}, "1092676 samples a second"),
        ({"rate": 0}, "cannot be read|0 samples a second"),
        ({"bits": 0}, "cannot be read"),
    ],
)
def test_broken_headers(tone: Tone, encode: Encode, change: dict[str, int], why: str) -> None:
    with pytest.raises(AudioError, match=why):
        decode(header(encode(tone(1)), **change))


def test_a_wav_written_to_a_pipe_does_not_know_its_size(tone: Tone, encode: Encode) -> None:
    assert len(decode(header(encode(tone(1)), data_size=0xFFFFFFFF)).samples) == 16_000


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty file"),
        (b"hello, world", "cannot be read as audio"),
        (bytes(44), "cannot be read as audio"),
        (b"RIFF\x24\0\0\0WAVEfmt ffff\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0", "cannot be read as audio"),
        (
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0HURF9999" + b"x" * 99,
            "cannot be read",
        ),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0", "holds no samples"),
    ],
)
def test_what_is_no_audio(data: bytes, why: str) -> None:
    with pytest.raises(AudioError, match=why):
        decode(data)


@pytest.mark.parametrize("container", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST", "WAVEX", "VOC", "SVX", "IRCAM"])
def test_what_libsndfile_reads_is_read(tone: Tone, encode: Encode, container: str) -> None:
    whole = encode(tone(0.5), container=container)
    assert decode(whole).samples == pytest.approx(tone(0.5), abs=1e-3)
    if container in ("AIFF", "AU", "CAF", "W64", "RF64", "NIST"):
        with pytest.raises(AudioError, match="is truncated"):
            decode(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x20ftypM4A " + bytes(200), "MP4, M4A or 3GP"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "Matroska or WebM"),
        (b"#!AMR\n" + bytes(200), "AMR"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(200), "WMA or WMV"),
        (b"\xff\xf1\x60\x40\x1c\xff\xfc\xde" + bytes(200), "AAC"),
    ],
)
def test_what_libsndfile_does_not_read_says_how_to_convert_it(data: bytes, name: str) -> None:
    with pytest.raises(AudioError, match=f"is {name}, which cannot be read here: convert it with ffmpeg -i IN OUT.wav"):
        decode(data)


def test_hours_and_gigabytes_are_refused_before_decoding(
    tone: Tone, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LENGTH_S", 2)
    with pytest.raises(AudioError, match=r"claims 0\.0 hours"):
        decode(encode(tone(2.5)))
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(AudioError, match="larger than 1 GiB"):
        decode(encode(tone(1)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_give_audio_or_one_sentence(encode: Encode, data: st.DataObject) -> None:
    """Whatever bytes are overwritten, the answer is samples or AudioError, never another exception."""
    container = data.draw(st.sampled_from(["WAV", "FLAC", "OGG"]))
    whole = bytearray(encode(np.random.default_rng(0).normal(0, 0.1, 2000), container=container))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, min(200, len(whole) - 1)))] = data.draw(st.integers(0, 255))
    try:
        waveform = decode(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    except AudioError as refusal:
        sentence = str(refusal)
    else:
        sentence = ""
        assert np.isfinite(waveform.samples).all()
        assert 0 < len(waveform.samples) <= 480_000
    assert len(sentence.splitlines()) <= 1


def test_an_mp3_of_a_few_bytes_prints_no_traceback(encode: Encode, capfd: pytest.CaptureFixture[str]) -> None:
    whole = encode(np.random.default_rng(0).normal(0, 0.1, 16_000), container="MP3")
    for size in range(1, 400, 7):
        with pytest.raises(AudioError):
            decode(whole[:size])
    assert "Traceback" not in capfd.readouterr().err


def test_resample_keeps_pitch_and_takes_rates_with_fractions(tone: Tone) -> None:
    samples = resample(tone(2, 17_600), 17_600.5, 16_000)
    assert samples.dtype == np.float32
    assert pitch(samples) == pytest.approx(440, abs=1)
