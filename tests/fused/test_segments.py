"""Where a window is cut: at the last pair of timestamps, unless the hypothesis ends on a single one."""

import pytest

from whisper_speedup.fused.segments import split_at_timestamps

T = 100  # the first timestamp token


@pytest.mark.parametrize(
    ("tokens", "kept", "offset"),
    [
        ([], [], 3000),
        ([1, 2, 3], [1, 2, 3], 3000),
        ([T, 1, 2, T + 50], [T, 1, 2, T + 50], 3000),
        ([T, 1, T + 50, T + 50, 2, 3], [T, 1, T + 50, T + 50], 100),
        ([T, 1, T + 9, T + 9, 2, T + 20], [T, 1, T + 9, T + 9, 2, T + 20], 3000),  # single timestamp at the end
        ([T, 1, T + 9, T + 9, 2, T + 20, T + 20], [T, 1, T + 9, T + 9, 2, T + 20, T + 20], 40),
        ([T, T], [T, T], 0),
        ([1, T + 3, T + 5, 7, T + 8, T + 9, 4], [1, T + 3, T + 5, 7, T + 8, T + 9], 16),
    ],
)
def test_split(tokens: list[int], kept: list[int], offset: int) -> None:
    assert split_at_timestamps(tokens, T, 2, 3000) == (kept, offset)
