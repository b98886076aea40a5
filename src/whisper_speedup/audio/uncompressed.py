"""Where the samples of a WAV, RF64, AIFF, W64, CAF, AU or SPHERE file lie by its own header, and that header put right.

Recorders that write to a pipe or are cut off leave a size of 0 or the largest number; then all that follows is sound.
Others count the header too, or are off by a little. SLACK is where "slightly off" ends and "truncated" begins: the
longest usual header, 2 ms of speech at 16 kHz, and a size that is exactly that of the whole file.
"""

import re
import struct
from typing import NamedTuple

from whisper_speedup.audio.clips import AudioError, Stream

SLACK = 64  # bytes
UNFILLED = 0x7FFF0000  # from here on, a size of 32 bits was never filled in
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
START = (
    rb"RIFF.{4}WAVE|(?:RF64|BW64).{4}WAVE|FORM.{4}AIF[FC]|caff\x00[\x01\x02]|NIST_1A\n|"
    + re.escape(W64)
    + rb"|\.snd\x00{2}.{6}\x00{3}[\x01-\x1b]\x00.{3}\x00{3}."
)


class Layout(NamedTuple):
    """How a container of chunks is laid out. `header`: bytes of a chunk before its content."""

    begin: int
    name: int
    size: str
    align: int
    wanted: bytes
    whole: bool = False  # a size that counts the chunk's header too


class Sound(NamedTuple):
    """Where samples begin; `size`: their bytes by the header, None where it does not say; `place`: of that number."""

    begin: int
    size: int | None
    place: int
    layout: Layout | None


_LAYOUTS = {
    b"RIFF": Layout(12, 4, "<I", 2, b"data"),
    b"RF64": Layout(12, 4, "<I", 2, b"data"),
    b"BW64": Layout(12, 4, "<I", 2, b"data"),
    b"FORM": Layout(12, 4, ">I", 2, b"SSND"),
    b"caff": Layout(8, 4, ">q", 1, b"data"),
    b"riff": Layout(40, 16, "<Q", 8, b"data", whole=True),
}


def sound(data: bytes) -> Sound | None:
    """Where the samples of the file that `data` begins with are, None where no header says."""
    if data[:4] == b".snd" and len(data) >= 24:
        begin, size = struct.unpack_from(">II", data, 4)
        return Sound(begin, None if size >= UNFILLED else size, 8, None)
    if data[:8] == b"NIST_1A\n":
        return _sphere(data)
    layout = _LAYOUTS.get(data[:4])
    if layout is None:
        return None
    at, found = layout.begin, None
    while found is None and (chunk := _chunk(data, at, layout)) is not None:
        name, begin, size, at_next = chunk
        if name == layout.wanted:
            found = Sound(begin, size, at + layout.name, layout)
        elif size < 0:
            return None
        at = at_next
    if found is not None and found.size is not None:
        if data[:4] in (b"RF64", b"BW64") and data[12:16] == b"ds64" and found.size >= UNFILLED:
            return found._replace(size=struct.unpack_from("<Q", data, 28)[0])
        unfilled = found.size >= UNFILLED and struct.calcsize(layout.size) == 4
        if unfilled or found.size < 0 or found.size >= 2**62:
            return found._replace(size=None)
    return found


def _chunk(data: bytes, at: int, layout: Layout) -> tuple[bytes, int, int, int] | None:
    """(first four letters of the name, begin, size, end with padding) of the chunk at `at`."""
    begin = at + layout.name + struct.calcsize(layout.size)
    if begin > len(data):
        return None
    (size,) = struct.unpack_from(layout.size, data, at + layout.name)
    if layout.whole:
        size -= begin - at
        if size < 0:
            return None
    return data[at : at + 4], begin, size, begin + size + -size % layout.align


def _sphere(data: bytes) -> Sound | None:
    head = data[:1024].decode("latin-1")
    numbers = {key: int(value) for key, value in re.findall(r"(\w+) -i (\d{1,15})\n", head)}
    begin = re.match(r"NIST_1A\n *(\d{1,6})\n", head)
    wanted = ("sample_count", "sample_n_bytes")
    if begin is None or any(key not in numbers for key in wanted) or "shorten" in head:
        return None
    size = numbers["sample_count"] * numbers["sample_n_bytes"] * numbers.get("channel_count", 1)
    return Sound(int(begin[1]), size, 0, None)


def end(data: bytes) -> int:
    """Where the file that `data` begins with ends: after its samples and the chunks that follow them."""
    where = sound(data)
    if where is None:
        return len(data)
    size = where.size
    if size is None or (size == 0 and not _chunks_only(data, where)):
        following = re.compile(START, re.DOTALL).search(data, where.begin)  # the next of several recordings
        return following.start() if following else len(data)
    at = _chunks(data, where, size)
    # A size of the samples alone that is too small: the file's own size, which is another number, has room for more.
    outer = 8 + struct.unpack_from("<I", data, 4)[0] if data[:4] == b"RIFF" else 0
    return outer if at + 1 < outer <= len(data) else min(at, len(data))


def _chunks(data: bytes, where: Sound, size: int) -> int:
    """Where the chunks end that follow samples of `size` bytes."""
    at = where.begin + size
    if where.layout is not None:
        padded = at + -size % where.layout.align
        at = padded if _is_chunk(data, padded, where.layout) or data[at : at + 1] == b"\0" else at
        while (after := _is_chunk(data, at, where.layout)) is not None:
            at = after
    return at


def _is_chunk(data: bytes, at: int, layout: Layout) -> int | None:
    """Where the chunk at `at` ends, None when what is there is none, or is another file."""
    chunk = _chunk(data, at, layout)
    if chunk is None or not re.fullmatch(rb"[A-Za-z0-9_ ()\xa9]{4}", chunk[0]) or chunk[0] in _LAYOUTS:
        return None
    _, begin, size, after = chunk
    return min(after, len(data)) if size >= 0 and begin + size <= len(data) else None


def _chunks_only(data: bytes, where: Sound) -> bool:
    """Whether nothing but chunks follows samples of size 0."""
    at = where.begin
    while where.layout is not None and (after := _is_chunk(data, at, where.layout)) is not None:
        at = after
    return at >= len(data)


def stream(content: bytes) -> Stream:
    """One recording with a size that libsndfile can follow. Raises AudioError when samples are missing."""
    where = sound(content)
    if where is None:
        return Stream(content)
    held = len(content) - where.begin
    _check_widths(content)
    if where.size is None or (where.size == 0 and held > 0 and not _chunks_only(content, where)):
        usual = content[:4] in (b".snd", b"caff")  # formats in which a recorder need not know
        return Stream(_filled(content, where, held), None if usual else "has no size in its header: all was decoded")
    missing = where.size - held
    more = len(content) - _chunks(content, where, where.size)
    if more > 1:
        return Stream(_filled(content, where, held), f"has {more} bytes more than its header says: all was decoded")
    if missing <= 0:
        return Stream(content)
    if missing > SLACK and where.size not in (len(content), len(content) - 8):
        why = f"its header promises {where.size} bytes of samples, and it holds {max(held, 0)}"
        raise AudioError(f"is truncated ({why}): copy it again from the original")
    return Stream(_filled(content, where, held), f"has {missing} bytes less than its header says: all was decoded")


def _filled(content: bytes, where: Sound, held: int) -> bytes:
    """`content` with the size of its samples put right, where libsndfile looks for it."""
    changed = bytearray(content)
    if where.layout is None or content[:4] in (b"RF64", b"BW64"):
        return content
    whole, size = where.layout.whole, where.layout.size
    most = UNFILLED if struct.calcsize(size) == 4 else 2**62
    struct.pack_into(size, changed, where.place, min(held + (where.begin - where.place + 16 if whole else 0), most))
    if whole:
        struct.pack_into("<Q", changed, 16, len(content))
    elif content[:4] != b"caff":
        struct.pack_into(size, changed, 4, min(len(content) - 8, most))
    return bytes(changed)


def _check_widths(content: bytes) -> None:
    """A WAV that says 8 bits and keeps two bytes of each sample would be read as noise. Raises AudioError."""
    at = content.find(b"fmt ", 12, 4096) if content[:4] == b"RIFF" else -1
    if at < 0 or len(content) < at + 24:
        return
    tag, channels, _, _, align, bits = struct.unpack_from("<HHIIHH", content, at + 8)
    if tag == 1 and 0 < bits <= 8 and channels and align != channels:
        raise AudioError(f"says {bits} bits a sample in {align / channels:g} bytes, a broken header: convert it again")
