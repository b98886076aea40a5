"""Token and position embeddings into the residual stream."""

import pytest
import torch
import triton

from tests.kernels.support import (
    POSITIONS,
    PROMPT,
    ROW_COUNTS,
    VOCABULARIES,
    check_left_for_norm,
    close,
    index,
    random,
)
from whisper_speedup.kernels.embed import embed, embed_reference
from whisper_speedup.kernels.stream import Stream


def check(
    device: torch.device, dtype: torch.dtype, tokens: list[int], vocabulary: int, positions: int, d: int, start: int,
    prompt: bool, block: int,
) -> None:  # fmt: skip
    rows = len(tokens)
    ids = torch.tensor(tokens, dtype=torch.int32, device=device)
    embedding, places = random(device, dtype, vocabulary, d), random(device, dtype, positions, d)
    gamma = random(device, dtype, d)
    stream = Stream(d, dtype, device)
    for buffer in (stream.residual, stream.scaled, stream.sums):
        buffer.fill_(float("nan"))
    embed(ids, embedding, places, index(device, start), stream, gamma, prompt=prompt, block=block)
    expected = embed_reference(ids, embedding, places, start, prompt)
    assert torch.equal(stream.residual[:rows], expected)
    assert stream.parts == triton.cdiv(d, block)
    check_left_for_norm(stream, expected, gamma)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize(
    ("tokens", "d", "start", "block"),
    [([3, 0, 9], 40, 2, 16), ([11], 33, 0, 16), ([5, 5, 1, 0, 11], 72, 4, 64), ([1, 2, 3, 4, 5, 6, 7, 8], 16, 1, 8)],
)
def test_small_shapes(
    device: torch.device, dtype: torch.dtype, prompt: bool, tokens: list[int], d: int, start: int, block: int
) -> None:
    check(device, dtype, tokens, 12, 9, d, start, prompt, block)


@pytest.mark.gpu
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, vocabulary: int) -> None:
    for rows in ROW_COUNTS:
        tokens = [vocabulary - 1, 0, *torch.randint(0, vocabulary, (6,)).tolist()][:rows]
        check(device, half, tokens, vocabulary, POSITIONS, width, POSITIONS - 1, prompt=False, block=64)
    check(device, half, [vocabulary - 1, 50257, 50359, 50363][:PROMPT], vocabulary, POSITIONS, width, 0, True, 64)


def test_writing_again_leaves_nothing_of_the_first_time(device: torch.device, dtype: torch.dtype) -> None:
    """An utterance's prompt leaves more partial sums and rows than the step that follows reads."""
    embedding, places = random(device, dtype, 12, 40), random(device, dtype, 9, 40)
    gamma, stream = random(device, dtype, 40), Stream(40, dtype, device)
    for tokens, block in (([1, 2, 3, 4], 8), ([7, 8], 16)):
        ids = torch.tensor(tokens, dtype=torch.int32, device=device)
        embed(ids, embedding, places, index(device, 3), stream, gamma, block=block)
        expected = embed_reference(ids, embedding, places, 3, False)
        rows = len(tokens)
        close(stream.sums[0, : stream.parts, :rows].sum(0), expected.sum(-1), 1e-5)
        assert torch.equal(stream.residual[:rows], expected)
