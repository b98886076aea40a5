"""Whether an audio file ends before its header says. libsndfile shortens a cut WAV or OGG without a word.

The four containers say their length in four ways: RIFF (Microsoft, 1991), FLAC's STREAMINFO, Ogg's end-of-stream flag
(RFC 3533), and MP3's Xing tag, where there is one.
"""

import struct


def truncation(data: bytes, container: str, promised: int, decoded: int) -> str | None:
    """Why `data` is cut short, None when it is whole. `promised` and `decoded` count frames.

    An MP3 without a Xing tag promises nothing that could be checked.
    """
    missing = f"its header promises {promised} frames, and it holds {decoded}"
    if container in {"WAV", "WAVEX"}:
        return _riff(data)
    if container == "OGG":
        return _ogg(data)
    if container == "MP3" and not _xing(data):
        return None
    return missing if decoded < promised else None


def _riff(data: bytes) -> str | None:
    """Walk the chunks up to `data` and compare its size with what is left of the file."""
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        held = len(data) - position - 8
        # Programs that write to a pipe cannot know the size, and put the largest number there.
        if name == b"data" and held < size < 0x7FFF0000:
            return f"its header promises {size} bytes of samples, and it holds {held}"
        if name == b"data":
            return None
        position += 8 + size + size % 2
    return None


def _ogg(data: bytes) -> str | None:
    """The last page must be whole and carry the end-of-stream flag."""
    page = data.rfind(b"OggS")
    segments = data[page + 26] if len(data) > page + 26 else 0
    lengths = data[page + 27 : page + 27 + segments]
    whole = len(lengths) == segments and page + 27 + segments + sum(lengths) <= len(data)
    ended = whole and data[page + 5] & 4
    return None if ended else "its last page is missing"


def _xing(data: bytes) -> bool:
    """Whether the first MP3 frame, after any ID3v2 tag, counts the frames."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    first = data[start : start + 1500]
    return b"Xing" in first or b"Info" in first
