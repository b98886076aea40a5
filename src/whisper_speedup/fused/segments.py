"""Where transformers cuts a decoded window at timestamps and decodes the rest again.

Timestamp tokens are not suppressed by default, even when none are asked for. When a hypothesis holds two timestamps
in a row, Whisper means "a segment ends here and the next begins": transformers keeps the tokens up to there, moves
the window to that time and generates again (`_retrieve_segment`, models/whisper/generation_whisper.py).
"""


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
