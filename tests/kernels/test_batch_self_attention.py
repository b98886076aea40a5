"""Self-attention of slots at positions of their own, prompts among them, and what it writes to the cache."""

import pytest
import torch

from tests.kernels.support import HEAD_DIM, TOLERANCE, close, random
from whisper_speedup.kernels.batch_self_attention import batch_self_attention, batch_self_attention_reference


def check(
    device: torch.device, dtype: torch.dtype, at: list[int], beams: int, d: int, heads: int, positions: int,
    prompt_length: int, group: int = 4, block: int = 16,
) -> None:  # fmt: skip
    slots = len(at)
    qkv, offset = random(device, dtype, slots * beams, 3 * d), random(device, torch.float32, 3 * d)
    keys, values = (random(device, dtype, slots, positions, beams, d) for _ in range(2))
    ancestry = torch.randint(0, beams, (slots, 16, positions), dtype=torch.int32, device=device)
    position = torch.tensor(at, dtype=torch.int32, device=device)
    for slot, start in enumerate(at):
        ancestry[slot, :, : min(start, prompt_length)] = 0
        keys[slot, start:], values[slot, start:] = float("nan"), float("nan")  # never read
    done = torch.zeros(slots, dtype=torch.int32, device=device)
    done[-1] = 1
    out = torch.full((slots * beams, d), 7.0, device=device, dtype=dtype)
    caches = [keys.clone(), values.clone()]
    expected = batch_self_attention_reference(
        qkv, offset, *caches, ancestry, position, prompt_length, heads
    )  # fmt: skip
    caches[0][-1], caches[1][-1] = keys[-1], values[-1]
    batch_self_attention(
        qkv, offset, keys, values, ancestry, position, done, out, prompt_length, heads, group, block
    )  # fmt: skip
    last = (slots - 1) * beams
    close(out[:last], expected[:last], 2 * TOLERANCE[dtype])  # the bias may round a key the other way
    assert bool((out[last:] == 7.0).all()), "a slot that is done keeps what it had"
    for found, cache in zip((keys, values), caches, strict=True):
        torch.testing.assert_close(found, cache, rtol=2e-3, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize(
    ("at", "beams", "prompt_length"),
    [([0, 9, 4, 20, 2], 5, 4), ([0, 2, 4, 7, 1], 2, 5), ([0, 3, 11, 1], 1, 4), ([0, 17, 6], 8, 3)],
)
def test_small_shapes(device: torch.device, dtype: torch.dtype, at: list[int], beams: int, prompt_length: int) -> None:
    check(device, dtype, at, beams, 48, 3, 24, prompt_length, group=2, block=8)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int) -> None:
    check(device, half, [0, 4, 53, 30, 12, 3], 5, width, width // HEAD_DIM, 54, 4)
    check(device, half, [0, 400, 1], 5, width, width // HEAD_DIM, 448, 4)
