"""Recordings joined in one file, and files whose headers are not quite right: all of the sound, and a note."""

import re
import struct
from collections.abc import Callable

import numpy as np
import pytest

from whisper_speedup.audio import flac, mpeg, ogg
from whisper_speedup.audio.decode import AudioError, decode
from whisper_speedup.audio.streams import split

Tone = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
ID3V1 = b"TAG" + b"x" * 125
ID3V2 = b"ID3\3\0\0\0\0\1\0" + bytes(128)
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 40, 0, 0xA0000000) + b"k" * 40


@pytest.fixture(scope="session")
def speech(encode: Encode) -> Callable[..., bytes]:
    """Noise of a seed in a container: `seconds` of it at `rate`, in `channels`."""

    def make(container: str, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, subtype: str = "") -> bytes:
        noise = np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))
        return encode(noise, rate, container, subtype or None)

    return make


def packed(data: bytes, place: int, kind: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(kind, changed, place, value)
    return bytes(changed)


def xing(mp3: bytes) -> int:
    """Where the header frame's tag begins."""
    return max(mp3.find(b"Xing"), mp3.find(b"Info"))


def bare(mp3: bytes) -> bytes:
    """Without its header frame, as a recorder writes it."""
    first = mpeg.frame(mp3, 0)
    assert first is not None
    return mp3[first.length :]


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("MP3", ""), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("WAV", ""), ("FLAC", ""), ("AIFF", ""), ("AU", ""), ("CAF", "")],
)
@pytest.mark.parametrize("second", [(16_000, 1), (48_000, 2)])
def test_recordings_joined_in_one_file_are_all_decoded(
    speech: Callable[..., bytes], container: str, subtype: str, second: tuple[int, int]
) -> None:
    one, two = speech(container, 1.0, subtype=subtype), speech(container, 0.5, *second, subtype=subtype)
    waveform = decode(one + two)
    alone = decode(one), decode(two)
    assert np.array_equal(waveform.samples, np.concatenate([part.samples for part in alone]))
    assert len(waveform.samples) == pytest.approx(24_000, abs=8)
    assert waveform.note == "holds 2 recordings one after another (1.0 s, 0.5 s): they were joined"
    assert [part.note for part in alone] == [None, None]


@pytest.mark.parametrize("between", [ID3V1, ID3V2, APE, bytes(3000), ID3V1 + ID3V2, b"\r\n"])
@pytest.mark.parametrize("container", ["MP3", "OGG", "FLAC", "WAV"])
def test_tags_and_padding_between_and_after_are_no_sound(
    speech: Callable[..., bytes], container: str, between: bytes
) -> None:
    one = speech(container)
    assert decode(one + between).note is None
    assert np.array_equal(decode(one + between).samples, decode(one).samples)
    assert len(decode(one + between + one + between).samples) == 2 * len(decode(one).samples)


@pytest.mark.parametrize(("first", "second"), [("WAV", "MP3"), ("MP3", "OGG"), ("OGG", "WAV"), ("FLAC", "MP3")])
def test_recordings_of_different_kinds(speech: Callable[..., bytes], first: str, second: str) -> None:
    assert len(decode(speech(first) + speech(second)).samples) == 32_000


def test_mp3s_without_a_header_and_with_the_firsts_alone(speech: Callable[..., bytes]) -> None:
    one, other = speech("MP3"), speech("MP3", rate=44_100, channels=2)
    long = len(decode(bare(one)).samples)
    assert long == pytest.approx(16_000, abs=2 * 1152)  # its bit rate varies: no count, and no way to guess it
    assert len(decode(bare(one) + bare(one)).samples) == pytest.approx(2 * long, abs=1152)
    assert len(decode(bare(one) + bare(other)).samples) == pytest.approx(2 * long, abs=1600)
    joined = decode(one + bare(one))
    assert len(joined.samples) == pytest.approx(2 * long, abs=2000)
    assert re.fullmatch(
        r"says in its header that it has \d+ frames, and has \d+: all of it was decoded", joined.note or ""
    )


def test_one_bad_recording_of_several_refuses_the_file(speech: Callable[..., bytes]) -> None:
    with pytest.raises(AudioError, match=r"holds 2 recordings, of which number 2 is truncated|is truncated"):
        decode(speech("OGG") + speech("OGG")[:-50])


def test_what_is_left_over_is_said(speech: Callable[..., bytes]) -> None:
    for container in ("MP3", "OGG"):
        note = decode(speech(container) + b"?" * 5000).note
        assert note == "has 5000 bytes after its end that are no sound: they were left out"
    assert "100 bytes after its end" in (decode(speech("WAV") + b"?" * 100).note or "")
    with pytest.raises(AudioError, match=r"holds 5000 bytes after the samples that its header counts: .*ffmpeg"):
        decode(speech("WAV") + b"\x12\x34" * 2500)
    mp3 = speech("MP3")
    fifth = 0
    for _ in range(4):
        one = mpeg.frame(mp3, fifth)
        assert one is not None
        fifth += one.length
    hole = decode(mp3[:fifth] + b"?" * 5000 + mp3[fifth:])
    assert hole.note == "has 5000 bytes between its frames that are no sound: they were left out"
    assert np.array_equal(hole.samples, decode(mp3).samples)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_end_flag_is_whole(speech: Callable[..., bytes], subtype: str) -> None:
    whole = speech("OGG", 2.0, subtype=subtype)
    last = ogg.page(whole, whole.rfind(b"OggS"))
    assert last is not None
    content = packed(whole[last.start :], 5, "B", last.flags & ~4)
    content = content[:22] + ogg._checksum(content) + content[26:]
    waveform = decode(whole[: last.start] + content)
    assert np.array_equal(waveform.samples, decode(whole).samples)
    assert waveform.note == "has no end flag, as voice notes often have none: all that is there was decoded"
    assert len(decode((whole[: last.start] + content) * 2).samples) == 64_000


def test_an_ogg_damaged_in_its_middle_is_refused(speech: Callable[..., bytes]) -> None:
    whole = speech("OGG", 4.0)
    starts = [match.start() for match in re.finditer(b"OggS", whole)]
    with pytest.raises(AudioError, match="wrong checksum"):
        decode(packed(whole, starts[-2] + 200, "B", whole[starts[-2] + 200] ^ 1))
    with pytest.raises(AudioError, match="lacks pages"):
        decode(whole[: starts[-2]] + whole[starts[-1] :])


@pytest.mark.parametrize(
    ("riff", "size"),
    [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0, None), (36, 0), (None, 0), (None, 2), (None, 36), (None, 44), (None, -2),
     (None, -300), (None, 64)],
)  # fmt: skip
def test_a_wav_whose_sizes_are_off(speech: Callable[..., bytes], riff: int | None, size: int | None) -> None:
    whole = speech("WAV")
    changed = whole if riff is None else packed(whole, 4, "<I", riff)
    if size is not None:
        right = len(whole) - 44
        changed = packed(changed, 40, "<I", size if size in (0, 0xFFFFFFFF) else right + size)
    waveform = decode(changed)
    assert np.array_equal(waveform.samples, decode(whole).samples)
    assert (waveform.note is None) == (size is None)
    assert "header" in (waveform.note or "header")


def test_where_slightly_off_ends(speech: Callable[..., bytes]) -> None:
    whole = speech("WAV")
    for missing in (65, 100, 8000):
        with pytest.raises(AudioError, match=f"promises {len(whole) - 44} bytes of samples, and it holds"):
            decode(whole[:-missing])


@pytest.mark.parametrize("off", [1, -1, -5, "zero", "none"])
def test_an_mp3_whose_header_counts_wrongly(speech: Callable[..., bytes], off: int | str) -> None:
    mp3 = speech("MP3")
    place = xing(mp3)
    (count,) = struct.unpack_from(">I", mp3, place + 8)
    if off == "none":
        changed = packed(mp3, place + 4, ">I", struct.unpack_from(">I", mp3, place + 4)[0] & ~1)
    else:
        changed = packed(mp3, place + 8, ">I", 0 if isinstance(off, str) else count + off)
    waveform = decode(changed)
    assert len(waveform.samples) == pytest.approx(16_000, abs=2 * 1152)
    if off != "none":
        assert np.array_equal(waveform.samples, decode(mp3).samples)
    assert "says in its header that it has" in (waveform.note or "")


def test_an_mp3_that_lacks_frames_is_refused(speech: Callable[..., bytes]) -> None:
    mp3 = speech("MP3")
    with pytest.raises(AudioError, match="is truncated"):  # one frame, and that is cut: no encoder's slip
        decode(mp3[:-10])
    with pytest.raises(AudioError, match=r"is truncated \(its header promises \d+ frames, and it holds \d+\)"):
        decode(packed(mp3, xing(mp3) + 8, ">I", struct.unpack_from(">I", mp3, xing(mp3) + 8)[0] + 2))
    assert "ends in the middle of a frame" in (decode(bare(mp3)[:-10]).note or "")


@pytest.mark.parametrize("total", [0, 9000])
@pytest.mark.parametrize("after", [b"", ID3V1, bytes(500)])
def test_a_flac_whose_header_gives_too_little(speech: Callable[..., bytes], total: int, after: bytes) -> None:
    whole = speech("FLAC", 1.1)
    (fields,) = struct.unpack_from(">Q", whole, 18)
    changed = packed(whole, 18, ">Q", fields >> 36 << 36 | total)
    waveform = decode(changed + after)
    assert np.array_equal(waveform.samples, decode(whole).samples)
    assert "and has 17600: all of it was decoded" in (waveform.note or "")
    if not total:
        with pytest.raises(AudioError, match="gives no length, and its last frame is cut"):
            decode(changed[:-3])
    assert flac.stream(whole).note is None


def test_ordinary_files_are_handed_on_as_they_are(speech: Callable[..., bytes]) -> None:
    for container in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64", "NIST"):
        whole = speech(container)
        [stream] = split(whole)
        assert (stream.data, stream.note) == (whole, None)
