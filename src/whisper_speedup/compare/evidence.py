"""What a reader needs to judge an output that differs: the recording as a small MP3, and its log-mel picture.

The files are small enough for Git, so that `make report` shows and plays them on a machine without the audio. MP3 and
not Opus: every browser plays it, Safari before 18.4 too.
"""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from whisper_speedup.audio.row import Row
from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.log_mel import picture
from whisper_speedup.compare.verdict import BETTER, TIE, WORSE
from whisper_speedup.disk.records import Record
from whisper_speedup.errors import UserError

CAP_BYTES = 3_000_000  # of base64 in all, as it stands in evidence.jsonl and in the page
COMPRESSION = 0.8  # libsndfile's scale of MP3 with a variable bit rate: about 28 kbit/s for speech at 16 kHz


class Evidence(Record):
    """A row of evidence.jsonl: base64, null where `left_out` says why."""

    id: str
    audio: str | None
    log_mel: str | None
    left_out: str | None


def worst_first(row: Difference) -> tuple[bool, int, int, float]:
    """The order of differences: other words before other tokens, worse before better before ties, many words first (or
    many characters, where they are counted)."""
    verdicts = {WORSE: 0, BETTER: 1, None: 2, TIE: 3}
    apart = row.words_apart if row.characters_apart is None else row.characters_apart
    return row.same_text, verdicts[row.verdict], -apart, -abs(row.gap or 0.0)


def evidence(
    rows: Iterable[Difference], utterances: Iterable[Row], manifest_path: Path, cap_bytes: int = CAP_BYTES
) -> list[Evidence]:
    """Of each utterance in `rows`, the worst first, up to the cap."""
    from whisper_speedup.audio import manifest

    found: list[Evidence] = []
    left = cap_bytes
    ids = list(dict.fromkeys(row.id for row in sorted(rows, key=worst_first)))
    by_id = {utterance.id: utterance for utterance in utterances}
    for name in ids:
        nothing = Evidence(id=name, audio=None, log_mel=None, left_out=None)
        try:
            samples = manifest.load_audio(manifest_path, by_id[name])
        except UserError:
            found.append(nothing.but(left_out="the recording was not on the machine that compared the runs"))
            continue
        audio, log_mel = _base64(_mp3(samples)), _base64(picture(samples))
        if len(audio) + len(log_mel) > left:
            found.append(nothing.but(left_out=f"the page's {cap_bytes / 1e6:g} MB for recordings are used up"))
            continue
        left -= len(audio) + len(log_mel)
        found.append(nothing.but(audio=audio, log_mel=log_mel))
    return found


def _mp3(samples: npt.NDArray[np.float32]) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, 16_000, format="MP3", subtype="MPEG_LAYER_III", compression_level=COMPRESSION,
        bitrate_mode="VARIABLE",
    )  # fmt: skip
    return buffer.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
