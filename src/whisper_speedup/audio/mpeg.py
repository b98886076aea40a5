"""MP3 (and MP2, MP1): its frames are walked, for its header says too little, and mpg123 stops where that says so.

A file of several MP3s is cut where a header frame (Xing, Info, VBRI) stands or where the rate, the channels or the
layer change; what is no frame in between is left out. A count in the header that is one too high or too low in any way
is put right: encoders count the header's own frame, and joined files keep the first one's count.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from whisper_speedup.audio import tags
from whisper_speedup.audio.clips import AudioError, Stream

# kbit/s by (MPEG-1, layer); ISO 11172-3 and 13818-3.
_V1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_V2_LAYER_1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
# LAME's tag may trim 4095 samples at either end, less than 15 of the shortest frames; mpg123 may drop a first one.
TRIMMED = 16


class Frame(NamedTuple):
    """`kind` (version, layer, rate, mono) stays the same in one recording."""

    kind: tuple[int, int, int, bool]
    length: int
    samples: int


class Count(NamedTuple):
    """A header frame's count of frames, None where it has none; `place`: of its four bytes, counted from the frame."""

    frames: int | None
    place: int
    xing: bool


@dataclass
class Run:
    """One recording: its frames (start, end, and how many) as they lie in the file."""

    first: Frame
    header: Count | None
    frames: int = 0
    slices: list[list[int]] = field(default_factory=list)
    lengths: set[int] = field(default_factory=set)

    def add(self, at: int, length: int) -> None:
        if self.slices and self.slices[-1][1] == at:
            self.slices[-1][1] = at + length
        else:
            self.slices.append([at, at + length])
        self.frames += 1
        self.lengths.add(length)


def frame(data: bytes, at: int) -> Frame | None:
    """The frame whose header stands at `at`, None when there is none. A free-format frame counts as none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] < 0xE2:
        return None
    second, third, fourth = data[at + 1], data[at + 2], data[at + 3]
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    rate, bits = third >> 2 & 3, third >> 4
    if version == 1 or layer == 4 or rate == 3 or bits in (0, 15) or fourth & 3 == 2:
        return None
    hertz = _RATES[version][rate]
    table = _V1[layer] if version == 3 else _V2_LAYER_1 if layer == 1 else _V2
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    slot = 4 if layer == 1 else 1
    length = (samples // 8 // slot * table[bits - 1] * 1000 // hertz + (third >> 1 & 1)) * slot
    return Frame((version, layer, hertz, fourth >> 6 == 3), length, samples)


def starts(data: bytes, at: int, few: bool = True) -> bool:
    """Whether three frames of one kind stand here; `few`: or fewer, and then the file's end, a tag or padding to it."""
    first = current = frame(data, at)
    for _ in range(2):
        if first is None or current is None or current.kind != first.kind:
            return False
        at += current.length
        if few and (data[at : at + 3] in (b"TAG", b"ID3", b"APE") or tags.skip(data, at) == len(data)):
            return at <= len(data)
        current = frame(data, at)
    return current is not None and first is not None and current.kind == first.kind


def find(data: bytes, at: int, end: int) -> int:
    """Where the next recording's frames begin, from `at` to `end`; `end` when nowhere."""
    found = (match.start() for match in _SYNC.finditer(data, at, end))
    return next((place for place in found if starts(data, place, few=False)), end)


def streams(data: bytes, at: int, other: Callable[[int], int]) -> tuple[list[Stream], int]:
    """The recordings from `at` on, and where they end. `other`: where the next other container begins.

    Raises AudioError when frames are missing.
    """
    runs: list[Run] = []
    passed_over, cut = 0, False
    kind = None
    while at < len(data):
        now = frame(data, at)
        if now is not None and at + now.length > len(data):
            cut = now.kind == kind
            now = None
        if now is None or (now.kind != kind and not starts(data, at)):
            if (after := tags.skip(data, at)) == at:
                end = other(at)
                after = find(data, at + 1, end)
                if after == end:  # no frames any more
                    break
                passed_over += after - at
            at = after
            continue
        header = _header(data, at, now)
        if header is not None or now.kind != kind:
            runs.append(Run(now, header))
            kind = now.kind
        runs[-1].add(at, now.length)
        at += now.length
    cut = cut and at < len(data)
    made = [_stream(data, run, cut and run is runs[-1]) for run in runs]
    if cut:
        made[-1] = made[-1].noting("ends in the middle of a frame: if it should be longer, copy it again")
        at = len(data)
    if passed_over:
        made[-1] = made[-1].noting(f"has {passed_over} bytes between its frames that are no sound: they were left out")
    return made, at


def _header(data: bytes, at: int, now: Frame) -> Count | None:
    """What the frame at `at` counts, None where it is an ordinary one."""
    version, layer, _, mono = now.kind
    if layer != 3:
        return None
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    for offset in (4 + side, 6 + side):  # 6: with a checksum
        if data[at + offset : at + offset + 4] in (b"Xing", b"Info") and offset + 12 <= now.length:
            flags, frames = struct.unpack_from(">II", data, at + offset + 4)
            return Count(frames if flags & 1 else None, offset + 8, xing=True)
    if data[at + 36 : at + 40] == b"VBRI" and now.length >= 54:
        return Count(struct.unpack_from(">I", data, at + 50)[0], 50, xing=False)
    return None


def _counted(content: bytes, run: Run, frames: int) -> bytes:
    """`content` behind a header frame that counts its frames, where it needs one.

    Without one libsndfile takes the first frame's bit rate for all and stops where the file should end then.
    """
    version, layer, _, mono = run.first.kind
    if layer != 3 or max(run.lengths) - min(run.lengths) <= 1:
        return content
    head = bytearray(content[:4])
    head[1] |= 1  # no checksum
    head[2] = head[2] & 0x0F | 9 << 4  # 80 kbit/s or more: room for the tag
    made = frame(bytes(head), 0)
    assert made is not None
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    tag = struct.pack(">4s3I", b"Xing", 3, frames, made.length + len(content))
    return (bytes(head) + bytes(side) + tag).ljust(made.length, b"\0") + content


def _stream(data: bytes, run: Run, cut: bool) -> Stream:
    """The recording. `cut`: its last frame is not whole, so a count that is one too high is no slip of an encoder."""
    content = b"".join(data[start:end] for start, end in run.slices)
    if run.header is None:
        return Stream(_counted(content, run, run.frames), least=(run.frames - TRIMMED) * run.first.samples)
    promised, held = run.header.frames, run.frames - 1
    least = (held - TRIMMED) * run.first.samples
    if promised and promised > held + (not cut):
        why = f"its header promises {promised} frames, and it holds {held}"
        raise AudioError(f"is truncated ({why}): copy it again from the original")
    note = None if promised == held else f"says in its header that it has {promised or 'no'} frames, and has {held}"
    if run.header.xing and promised is not None:
        changed, place = bytearray(content), run.header.place
        struct.pack_into(">I", changed, place, held)
        if changed[place - 1] & 2:  # and their bytes, of which mpg123 warns on the terminal
            struct.pack_into(">I", changed, place + 4, len(changed))
        content = bytes(changed)
    else:
        content = _counted(content[run.first.length :], run, held)
    return Stream(content, note and f"{note}: all of it was decoded", least)
