"""What may stand before, between and after recordings in a file and is no sound: ID3, APE and Lyrics3 tags, padding."""

import re
import struct

_PADDING = re.compile(rb"[\0\t\n\r ]+")
_LYRICS = re.compile(rb"LYRICSBEGIN.{0,100000}?LYRICS(200|END)", re.DOTALL)


def id3v2(data: bytes, at: int = 0) -> int:
    """Where the ID3v2 tag at `at` ends; `at` itself where there is none."""
    head = data[at : at + 10]
    if head[:3] != b"ID3" or len(head) < 10 or any(byte > 127 for byte in head[6:]):
        return at
    size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return at + 10 + size + (10 if head[5] & 0x10 else 0)  # a footer repeats the header


def skip(data: bytes, at: int) -> int:
    """The first byte from `at` on that belongs to no tag and no padding; the file's length at most."""
    while at < len(data):
        after = _one(data, at)
        if after == at:
            return at
        at = after
    return len(data)


def _one(data: bytes, at: int) -> int:
    head = data[at : at + 24]
    if head[:3] == b"ID3":
        return id3v2(data, at)
    if head[:3] == b"TAG":
        return at + (227 if head[3:4] == b"+" else 128)
    if head[:8] == b"APETAGEX" and len(head) == 24:
        size, _, flags = struct.unpack_from("<III", head, 12)
        return at + 32 + (size if flags >> 29 & 1 else 0)  # bit 29: this is the tag's header, and not its end
    found = _PADDING.match(data, at) or _LYRICS.match(data, at)
    return found.end() if found else at
