"""Ogg (RFC 3533): recordings chained in one file, one of several tracks, and recordings that were not closed.

libsndfile decodes the first of a chain alone, and shortens a stream whose last page has no end-of-stream flag, as the
voice notes of Android and Telegram have none. Such a page gets the flag here where it is whole, completes its last
packet and holds sound; everything else is left to truncation.py to refuse. What no header can tell: whether a recording
that stops between two pages was longer. Its row has a note.
"""

import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from whisper_speedup.audio import tags
from whisper_speedup.audio.clips import AudioError, Stream

_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
_UNREADABLE = {b"\x7fFLAC": "FLAC in Ogg", b"Speex   ": "Speex", b"\x80theora": "a film without sound"}


class Page(NamedTuple):
    start: int
    end: int
    flags: int
    position: int  # samples up to its end
    serial: int
    number: int
    complete: bool  # its last packet ends in it

    @property
    def first(self) -> bool:
        return bool(self.flags & 2)


def page(data: bytes, at: int) -> Page | None:
    """The whole page at `at`."""
    if data[at : at + 5] != b"OggS\0" or at + 27 > len(data):
        return None
    flags, position, serial, number, _, segments = struct.unpack_from("<BqIIIB", data, at + 5)
    lengths = data[at + 27 : at + 27 + segments]
    end = at + 27 + segments + sum(lengths)
    if len(lengths) < segments or end > len(data):
        return None
    return Page(at, end, flags, position, serial, number, not lengths or lengths[-1] < 255)


def streams(data: bytes, at: int, other: Callable[[int], int]) -> tuple[list[Stream], int]:
    """The recordings from `at` on, and where they end. `other`: where the next other container begins.

    Raises AudioError for a codec that libsndfile does not decode.
    """
    links: list[list[Page]] = []
    tail = b""
    while at < len(data):
        now = page(data, at)
        if now is None:
            after = tags.skip(data, at)
            if after == at:
                end = other(at + 4 if data.startswith(b"OggS", at) else at)
                after = data.find(b"OggS", at + 1, end)
                if after < 0:
                    # The rest of a page that was cut is the last recording's: truncation.py sees that it is not whole.
                    if b"OggS".startswith(data[at : at + 4]):
                        tail, at = data[at:end], end
                    break
            at = after
            continue
        if not links or (now.first and not all(one.first for one in links[-1])):
            links.append([])
        links[-1].append(now)
        at = now.end
    made = [_stream(data, link, tail if link is links[-1] else b"") for link in links]
    return made or [Stream(data)], at


def _stream(data: bytes, link: list[Page], tail: bytes) -> Stream:
    codecs = {one.serial: _codec(data, one) for one in link if one.first}
    readable = [serial for serial, codec in codecs.items() if codec in _CODECS.values()]
    if codecs and not readable:
        why = next((codec for codec in codecs.values() if codec), "Ogg with an unknown codec")
        raise AudioError(f"is {why}, which cannot be read here: convert it with ffmpeg -i IN OUT.wav")
    pages = [one for one in link if not readable or one.serial == readable[0]]
    _check(data, pages)
    content = b"".join(data[one.start : one.end] for one in pages)
    stream = Stream(content + tail)
    last = pages[-1]
    if not tail and not last.flags & 4 and last.complete and last.position > 0:
        place = len(content) - (last.end - last.start)
        stream = Stream(content[:place] + ended(content[place:])).noting(
            "has no end flag, as voice notes often have none: all that is there was decoded"
        )
    if len(readable) > 1:
        stream = stream.noting(f"has {len(readable)} tracks at once: the first was taken")
    return stream


def _codec(data: bytes, first: Page) -> str | None:
    body = first.start + 27 + data[first.start + 26]
    known = {**_CODECS, **_UNREADABLE}
    return next((name for magic, name in known.items() if data.startswith(magic, body)), None)


def _check(data: bytes, pages: list[Page]) -> None:
    """Refuse damage in the middle, which the decoder would pass over together with the sound before it."""
    lost = sum(after.number != before.number + 1 for before, after in pairwise(pages))
    wrong = sum(not _whole(data[one.start : one.end]) for one in pages)
    if lost or wrong:
        what = f"lacks pages in {lost} of its places" if lost else f"has {wrong} pages with a wrong checksum"
        raise AudioError(f"is damaged ({what}): copy it again from the original")


def _whole(content: bytes) -> bool:
    """Whether the page's checksum is right, with its end flag or before somebody took that away."""
    return content[22:26] in (_checksum(content), ended(content)[22:26])


def ended(content: bytes) -> bytes:
    """One page with the end-of-stream flag, and its checksum with it."""
    changed = bytearray(content)
    changed[5] |= 4
    changed[22:26] = _checksum(bytes(changed))
    return bytes(changed)


def _checksum(content: bytes) -> bytes:
    """A page's own: zlib's polynomial with the bits in the other order, from 0 on, its own place counted as 0."""
    turned = (content[:22] + bytes(4) + content[26:]).translate(_TURNED)
    return (zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4).translate(_TURNED)


_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
