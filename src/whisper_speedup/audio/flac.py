"""FLAC: the number of samples that its header gives, checked against its last frame.

libsndfile cannot read a FLAC whose header gives none (written to a pipe), and stops where the header says so.
"""

import struct

from whisper_speedup.audio.clips import AudioError, Stream

# STREAMINFO is the first block and has 34 bytes; 0x80: and there is no other.
START = rb"fLaC[\x00\x80]\x00\x00\x22"
_LONGEST = 2**20  # bytes of a frame: 65,535 samples of 8 channels in 16 bits


def stream(content: bytes) -> Stream:
    """`content` begins with fLaC and may have tags at its end. Raises AudioError when its length cannot be known."""
    if len(content) < 42:
        return Stream(content)
    (fields,) = struct.unpack_from(">Q", content, 18)
    promised, block = fields & 0xFFFFFFFFF, struct.unpack_from(">H", content, 10)[0]
    held = _samples(content, block)
    if promised == 0 and held is None:
        why = "its header gives no length, and its last frame is cut or damaged"
        raise AudioError(f"is truncated ({why}): copy it again from the original")
    if held is None or held <= promised:
        return Stream(content)
    note = f"says in its header that it has {promised or 'no'} samples, and has {held}: all of it was decoded"
    return Stream(content[:18] + struct.pack(">Q", fields - promised + held) + content[26:], note)


def _samples(content: bytes, block: int) -> int | None:
    """How many samples there are up to the last frame's end, None when the file does not end with a whole frame."""
    bare = len(content) - (128 if content[-128:-125] == b"TAG" else 0)
    padded = len(content[:bare].rstrip(b"\0"))
    for end in dict.fromkeys((bare, padded, min(padded + 1, bare), min(padded + 2, bare))):  # a checksum may end in 0
        at, least, tries = end, max(42, end - _LONGEST), 4  # a header by chance is rare: its checksum must be right
        while tries and (at := content.rfind(b"\xff", least, at)) >= 0:
            frame = _frame(content[at : min(at + 16, end)], block)
            if frame is not None and _checksum(content[at:end], _CRC16, 16) == 0:
                return frame
            tries -= frame is not None
    return None


def _frame(head: bytes, block: int) -> int | None:
    """The number of samples up to the end of the frame that begins with `head`, None when none does."""
    if len(head) < 7 or head[1] not in (0xF8, 0xF9) or head[3] & 1:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    more = 0 if head[4] < 0x80 else next((n for n in range(1, 7) if not head[4] << n & 0x40), 7)
    if size == 0 or rate == 15 or 0x80 <= head[4] < 0xC0 or more > 6:
        return None
    number = head[4] & (0x7F if not more else 0x3F >> more)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at = 5 + more
    wide = {6: 1, 7: 2}.get(size, 0)
    end = at + wide + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if end >= len(head) or _checksum(head[: end + 1], _CRC8, 8) != 0:
        return None
    if wide:
        samples = int.from_bytes(head[at : at + wide]) + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    return (number if head[1] & 1 else number * block) + samples


def _checksum(content: bytes, table: list[int], bits: int) -> int:
    """0 of anything that ends with its own checksum."""
    value, mask = 0, (1 << bits) - 1
    for byte in content:
        value = (value << 8 & mask) ^ table[(value >> bits - 8) ^ byte]
    return value


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for number in range(256):
        value = number << bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> bits - 1 else 0)
        table.append(value)
    return table


_CRC8, _CRC16 = _table(0x107, 8), _table(0x18005, 16)
