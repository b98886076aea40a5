"""What the kernel tests share: tolerances, Whisper's published shapes, inputs, and outputs full of NaN."""

from collections.abc import Callable

import torch

from whisper_speedup.kernels.embed import embed
from whisper_speedup.kernels.stream import ROWS, Stream

HALVES = (torch.float16, torch.bfloat16)
# Relative errors of whole results. fp32: the order of additions. fp16 rounds a kernel's input or its softmax weights to
# 11 bits of mantissa, and its output once more: 3e-4 each. bf16 has 8 bits: 8 times fp16's error.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-6}
# What is accumulated in fp32 from half-precision inputs and stays fp32: products of two such numbers are exact.
ACCUMULATED = 1e-4

WIDTHS = (384, 512, 768, 1024, 1280)  # tiny, base, small, medium, large
HEAD_DIM = 64
VOCABULARIES = (51864, 51865, 51866)  # English only, multilingual, large-v3
KEYS = 1500  # encoder positions in 30 s
POSITIONS = 448
PROMPT = 4  # start, language, task, no timestamps
ROW_COUNTS = (1, 2, 5, 8, PROMPT)  # beams, and a prompt's tokens
EPS = 1e-5

SMALL = {"block_n": 16, "block_k": 32, "num_stages": 1}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of the whole result; NaN when any number in it is."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    error = relative_error(found, expected)
    assert error < tolerance, error


def random(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=device).to(dtype)


def index(device: torch.device, value: int) -> torch.Tensor:
    """One int32 on the device, as kernels read positions and lengths."""
    return torch.tensor([value], dtype=torch.int32, device=device)


def poisoned(device: torch.device, dtype: torch.dtype, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An output (rows, width) full of NaN, and the NaN behind it in memory, which a kernel must leave as they are."""
    buffer = torch.full((ROWS + 1, width), float("nan"), device=device, dtype=dtype)
    return buffer[:rows], buffer[rows:]


def filled(x: torch.Tensor, gamma: torch.Tensor, block: int = 16) -> Stream:
    """A stream that holds x, left for the norm with gamma by the embedding kernel; the other rows hold NaN."""
    width, device = x.shape[1], x.device
    stream = Stream(width, gamma.dtype, device)
    for buffer in (stream.residual, stream.scaled, stream.sums, stream.partial):
        buffer.fill_(float("nan"))
    tokens = torch.arange(x.shape[0], dtype=torch.int32, device=device)
    zeros = torch.zeros(1, width, device=device, dtype=x.dtype)
    embed(tokens, x.contiguous(), zeros, index(device, 0), stream, gamma, block=block)
    return stream


def check_left_for_norm(stream: Stream, x: torch.Tensor, gamma: torch.Tensor) -> None:
    """The stream holds what a norm with gamma needs of its rows x (rows, width), and no more than its writer wrote."""
    rows = x.shape[0]
    tolerance = TOLERANCE[gamma.dtype]
    close(stream.scaled[:rows], x * gamma.float(), tolerance)
    sums = stream.sums[:, : stream.parts, :rows].double().sum(1)
    held = stream.residual[:rows].double()
    # A row's sum can be near 0, so its error is measured against the sum of the absolute values.
    assert bool(((sums[0] - held.sum(-1)).abs() <= 1e-5 * held.abs().sum(-1)).all())
    torch.testing.assert_close(sums[1], held.square().sum(-1), rtol=1e-5, atol=0)
    for buffer in (stream.residual, stream.scaled):
        assert bool(buffer[rows:].isnan().all()), "rows beyond the utterance's must stay as they are"


def launch_again(launches: int, run: Callable[[], tuple[torch.Tensor, ...]]) -> None:
    """The same input gives the same bytes every time, whichever program finished last."""
    first = [result.clone() for result in run()]
    for _ in range(launches - 1):
        for result, expected in zip(run(), first, strict=True):
            assert torch.equal(result.view(torch.uint8), expected.view(torch.uint8))
