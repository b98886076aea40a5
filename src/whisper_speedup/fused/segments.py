"""Where transformers cuts a decoded window at timestamps and decodes the rest again.

Timestamp tokens are not suppressed by default, even when none are asked for. When a hypothesis holds two timestamps
in a row, Whisper means "a segment ends here and the next begins": transformers keeps the tokens up to there, moves
the window to that time and generates again (`_retrieve_segment`, models/whisper/generation_whisper.py).
"""

from collections.abc import Callable

import torch

from whisper_speedup.errors import ClipError
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.settings import DecodingSettings

STRIDE = 2  # feature frames to one encoder position: the encoder's two convolutions have strides 1 and 2


def decode_windows(
    features: torch.Tensor,
    frames: int,
    settings: DecodingSettings,
    decode: Callable[[torch.Tensor, int], Hypothesis],
) -> Hypothesis:
    """Decode features (1, mels, n) window by window of `frames` frames; `decode` takes a window and its number.

    Returns every window's tokens in one hypothesis; score and `ended` are the last window's. Raises ClipError where
    transformers would decode the same window for ever.
    """
    tokens: list[int] = []
    seek, segment = 0, 0
    while True:
        window = features[:, :, seek : seek + frames]
        held = window.shape[-1]
        if held < frames:
            window = torch.nn.functional.pad(window, (0, frames - held))
        best = decode(window, segment)
        kept, offset = split_at_timestamps(best.tokens, settings.timestamp_begin, STRIDE, held)
        tokens += kept
        seek += offset
        segment += 1
        if offset == 0 and settings.max_total(segment) == settings.max_total(segment - 1):
            raise ClipError(
                "the model ends a segment at 0.00 s again and again, so decoding cannot move on (transformers never"
                " returns here): leave this clip out, or choose another checkpoint."
            )
        if seek >= features.shape[-1]:
            return Hypothesis(tokens, best.score, best.ended)


def split_at_timestamps(tokens: list[int], timestamp_begin: int, stride: int, frames: int) -> tuple[list[int], int]:
    """The tokens to keep, and by how many frames to move on.

    `timestamp_begin`: the first timestamp token; `stride`: feature frames to one encoder position (2 in Whisper),
    which is also what one timestamp step stands for; `frames`: how many frames this window holds.
    """
    is_timestamp = [token >= timestamp_begin for token in tokens]
    doubles = [i for i in range(1, len(tokens)) if is_timestamp[i - 1] and is_timestamp[i]]
    if not doubles:
        return tokens, frames
    if is_timestamp[-2:] == [False, True]:  # one timestamp at the end: no speech after it
        return tokens, frames
    end = doubles[-1] + 1
    return tokens[:end], (tokens[end - 2] - timestamp_begin) * stride
