"""Residual, bias and the norm that follows, for many rows; and the decoder's input with its norm."""

import pytest
import torch

from tests.kernels.support import ACCUMULATED, EPS, TOLERANCE, close, random
from whisper_speedup.kernels.add_norm import add_norm, add_norm_reference, embed_rows, norm_reference


def check(device: torch.device, dtype: torch.dtype, rows: int, d: int, beta: bool, stream: torch.dtype) -> None:
    residual, x = random(device, stream, rows, d) * 3 + 1, random(device, dtype, rows, d)
    bias, gamma, offset = (random(device, dtype, d) for _ in range(3))
    out = torch.full((rows + 1, d), float("nan"), device=device, dtype=dtype)
    added, normed = add_norm_reference(residual, x, bias, gamma, offset if beta else None, EPS)
    add_norm(residual, x, bias, gamma, offset if beta else None, out[:rows], EPS)
    close(residual, added, ACCUMULATED if stream == torch.float32 else TOLERANCE[stream])
    close(out[:rows], normed, TOLERANCE[dtype])
    assert bool(out[rows:].isnan().all())


@pytest.mark.parametrize(("rows", "d", "beta"), [(5, 48, True), (3, 33, False), (1, 64, True)])
def test_small_shapes(device: torch.device, dtype: torch.dtype, rows: int, d: int, beta: bool) -> None:
    check(device, dtype, rows, d, beta, torch.float32)
    check(device, dtype, rows, d, beta, dtype)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int) -> None:
    check(device, half, 320, width, False, torch.float32)
    check(device, half, 3000, width, True, half)


def test_a_limit_holds_and_nan_passes(device: torch.device) -> None:
    residual = torch.tensor([[60000.0, -60000.0, float("nan"), 1.0]], device=device, dtype=torch.float16)
    x = torch.tensor([[9000.0, -9000.0, 0.0, 1.0]], device=device, dtype=torch.float16)
    zeros = torch.zeros(4, device=device, dtype=torch.float16)
    add_norm(residual, x, zeros, zeros + 1, None, torch.empty_like(x), EPS, 64504.0)
    assert residual[0, [0, 1, 3]].tolist() == [64512.0, -64512.0, 2.0]  # fp16's nearest
    assert bool(residual[0, 2].isnan())


def test_prompts_and_beams_side_by_side(device: torch.device, dtype: torch.dtype) -> None:
    """Slots within a prompt of 4 and behind it, with 3 beams; one stands behind the last position."""
    beams, d = 3, 40
    embedding, places, gamma = random(device, dtype, 20, d), random(device, dtype, 9, d), random(device, dtype, d)
    tokens = torch.arange(80, device=device, dtype=torch.int32).view(5, 16) % 20
    prompt = torch.tensor([11, 12, 13, 14], device=device, dtype=torch.int32)
    position = torch.tensor([0, 3, 4, 8, 9], device=device, dtype=torch.int32)
    residual, out = torch.zeros(15, d, device=device), torch.zeros(15, d, device=device, dtype=dtype)
    embed_rows(tokens, prompt, position, embedding, places, gamma, residual, out, EPS, beams)
    chosen = [11, 12, 13, 14, 14, 14] + [int(tokens[slot, beam]) for slot in (2, 3, 4) for beam in range(beams)]
    at = [0, 1, 2, 3, 3, 3] + [4] * 3 + [8] * 6
    expected = (embedding[chosen] + places[at]).float()
    close(residual, expected, TOLERANCE[dtype])
    close(out, norm_reference(expected, gamma, None, EPS), TOLERANCE[dtype])
