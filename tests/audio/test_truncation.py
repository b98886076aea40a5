import struct
from collections.abc import Callable

import numpy as np
import pytest

from whisper_speedup.audio.truncation import truncation

Encode = Callable[..., bytes]


def noise(frames: int = 16_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, frames)


def test_chunks_before_and_after_the_samples_do_not_matter(encode: Encode) -> None:
    wav = encode(noise(101), subtype="PCM_24")
    extra = struct.pack("<4sI", b"LIST", 5) + b"hello\0"  # odd sizes are padded
    longer = wav[:12] + extra + wav[12:] + extra
    assert truncation(longer, "WAV", 101, 101) is None
    for cut in (wav[:-2], wav[:12] + extra + wav[12:-2]):
        assert "promises 303 bytes of samples, and it holds 302" in (truncation(cut, "WAV", 101, 100) or "")


def test_every_cut_of_an_ogg_is_seen(encode: Encode) -> None:
    ogg = encode(noise(4000), container="OGG")
    assert truncation(ogg, "OGG", 4000, 4000) is None
    assert truncation(ogg + b"trailing", "OGG", 4000, 4000) is None
    for size in range(len(ogg)):
        assert truncation(ogg[:size], "OGG", 4000, 4000) == "its last page is missing"


def test_an_mp3_promises_a_length_only_in_a_xing_tag(encode: Encode) -> None:
    mp3 = encode(noise(), container="MP3")
    tag = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    untagged = mp3[:tag] + bytes(4) + mp3[tag + 4 :]
    assert truncation(mp3, "MP3", 16_000, 15_000) == "its header promises 16000 frames, and it holds 15000"
    assert truncation(untagged, "MP3", 16_000, 15_000) is None
    text = b"Info" * 1000
    size = bytes([0, 0, len(text) >> 7, len(text) & 127])
    assert truncation(b"ID3\4\0\0" + size + text + untagged, "MP3", 16_000, 15_000) is None
    assert truncation(b"ID3\4\0\0" + size + text + mp3, "MP3", 16_000, 15_000) is not None


@pytest.mark.parametrize(("decoded", "cut"), [(99, True), (100, False), (101, False)])
def test_flac_promises_frames(decoded: int, cut: bool) -> None:
    assert (truncation(b"", "FLAC", 100, decoded) is not None) == cut
