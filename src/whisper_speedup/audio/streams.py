"""A file's bytes cut into the recordings that it holds, each as libsndfile can read it to its end.

People join files end to end (`cat`), recorders leave headers unfilled, and libsndfile stops at the first end that it
sees. So what each container says of its own end is followed here, and what comes after is either another recording, a
tag or padding, or said in a note; samples that a header leaves out are an error.
"""

import re
from collections.abc import Callable

from whisper_speedup.audio import flac, mpeg, ogg, tags, uncompressed
from whisper_speedup.audio.clips import AudioError, Stream

# Bytes after samples that are neither a chunk, a tag nor a recording: up to here a form's last line, 32 ms at 16 kHz.
LEFT = 1024
LEADING = 4096  # bytes before the first frame of an MP3

_START = re.compile(rb"OggS\0\x02|" + flac.START + rb"|" + uncompressed.START, re.DOTALL)
_RAW = re.compile(uncompressed.START, re.DOTALL)
_UNREADABLE = {
    "MP4, M4A or 3GP": rb".{4}(?:ftyp|moov|mdat|wide)",
    "Matroska or WebM": rb"\x1a\x45\xdf\xa3",
    "WMA or WMV": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "AMR": rb"#!AMR",
    "AAC": rb"ADIF|\xff[\xf0\xf1\xf8\xf9][\x40-\x7f\x80-\xbf].[\x00-\xff]{4}",
    "AVI": rb"RIFF.{4}AVI ",
    "Flash video": rb"FLV\x01",
    "RealMedia": rb"\.RMF|\.ra\xfd",
    "WavPack": rb"wvpk",
    "Monkey's Audio": rb"MAC ",
    "TTA": rb"TTA[12]",
    "Musepack": rb"MPCK|MP\+",
    "DSD": rb"DSD |FRM8",
    "an MPEG program stream": rb"\x00\x00\x01\xba",
    "an MPEG transport stream": rb"\x47.{187}\x47.{187}\x47",
    "a Core Audio file of compressed sound": rb"caff\x00[\x01\x02].{2}desc.{16}(?:alac|aac |ima4|samr|ilbc)",
}


def split(data: bytes) -> list[Stream]:
    """The recordings in `data`, at least one. Raises AudioError for what cannot be read whole."""
    begin = min(tags.id3v2(data), len(data))
    for name, magic in _UNREADABLE.items():
        if re.compile(magic, re.DOTALL).match(data, begin):
            raise AudioError(f"is {name}, which cannot be read here: convert it with ffmpeg -i IN OUT.wav")
    if not _START.match(data, begin):
        if not mpeg.starts(data, begin):
            begin = mpeg.find(data, begin, min(begin + LEADING, len(data)))
        if not mpeg.starts(data, begin):
            return [Stream(data)]  # libsndfile knows more containers
    found: list[Stream] = []
    at, left, raw = begin, 0, False
    while at < len(data):
        if _START.match(data, at) or mpeg.starts(data, at):
            raw = _RAW.match(data, at) is not None
            more, end = _at(data, at)
            at = max(end, at + 4)  # a broken header may end where it begins
            found += more
        elif (after := tags.skip(data, at)) > at:
            at = after
        else:
            end = _next(data)(at)
            after = mpeg.find(data, at, end)
            if raw and after - at > LEFT:
                what = f"holds {after - at} bytes after the samples that its header counts"
                raise AudioError(f"{what}: if they are sound, convert it with ffmpeg -ignore_length 1 -i IN OUT.wav")
            left += after - at
            at = after
    if left:
        found[-1] = found[-1].noting(f"has {left} bytes after its end that are no sound: they were left out")
    return found


def _at(data: bytes, at: int) -> tuple[list[Stream], int]:
    """The recordings of the one container that begins at `at`, and where it ends."""
    following = _next(data)
    if data.startswith(b"OggS", at):
        return ogg.streams(data, at, following)
    if data.startswith(b"fLaC", at):
        end = mpeg.find(data, at, following(at + 4))
        return [flac.stream(data[at:end])], end
    if _START.match(data, at):
        rest = data[at:] if at else data
        end = uncompressed.end(rest)
        return [uncompressed.stream(rest[:end])], at + end
    return mpeg.streams(data, at, following)


def _next(data: bytes) -> Callable[[int], int]:
    def following(at: int) -> int:
        """Where the next container but an MP3 begins, from `at` on; the end of the file when none does."""
        found = _START.search(data, at)
        return found.start() if found else len(data)

    return following
