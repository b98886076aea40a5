"""Log-sum-exp and best allowed tokens of logits in memory, each slot at a length of its own."""

import pytest
import torch
import triton

from tests.kernels.support import VOCABULARIES, random
from tests.kernels.test_vocabulary import LOWEST, MIN_LENGTH, PROMPT_LENGTH, rules_of, unpacked
from whisper_speedup.fused.batch_decoder import BatchLaunch
from whisper_speedup.kernels.row_candidates import row_candidates, row_candidates_reference
from whisper_speedup.kernels.stream import ROWS


def check(
    device: torch.device, lengths: list[int], beams: int, size: int, keep: int, block: int, num_warps: int = 4
) -> None:
    slots = len(lengths)
    logits = (random(device, torch.float32, slots * beams, size + 5) * 3)[:, :size]
    assert logits.stride(0) > size
    logits[:, [20, 50]] = 30.0  # equal: the lower token goes first
    offset = random(device, torch.float32, size)
    offset[[20, 50]] = 1.0
    rules, _ = rules_of(size, device, 0)
    forbidden = torch.cat([rules_of(size, device, length)[1].expand(beams, -1) for length in lengths])
    length = torch.tensor(lengths, dtype=torch.int32, device=device)
    done = torch.zeros(slots, dtype=torch.int32, device=device)
    done[-1] = 1
    tiles = triton.cdiv(size, block)
    peak, norm = (torch.full((slots, tiles, ROWS), float("nan"), device=device) for _ in range(2))
    candidates = torch.full((slots, tiles, ROWS, keep), LOWEST, dtype=torch.int64, device=device)
    row_candidates(
        logits, offset, rules, length, done, peak, norm, candidates, PROMPT_LENGTH, MIN_LENGTH, beams, block, num_warps
    )  # fmt: skip
    best, tokens, total = row_candidates_reference(logits, offset, forbidden, keep)
    for slot in range(slots - 1):
        rows = slice(slot * beams, (slot + 1) * beams)
        highest = peak[slot, :, :beams].amax(0)
        found = (norm[slot, :, :beams] * (peak[slot, :, :beams] - highest).exp()).sum(0).log() + highest
        torch.testing.assert_close(found, total[rows], rtol=1e-6, atol=1e-5)
        merged = candidates[slot, :, :beams].transpose(0, 1).reshape(beams, -1).sort(dim=1, descending=True).values
        scores, chosen = unpacked(merged[:, :keep])
        torch.testing.assert_close(scores, best[rows], rtol=0, atol=0)
        assert chosen[:, 0].tolist() == [20] * beams
        assert torch.equal(chosen[:, 2:], tokens[rows, 2:])
    assert bool(peak[-1].isnan().all()), "a slot that is done keeps what it had"
    assert bool(peak[:, :, beams:].isnan().all())
    assert bool((candidates[:, :, beams:] == LOWEST).all())


@pytest.mark.parametrize(("beams", "size", "keep"), [(5, 203, 10), (1, 131, 2), (8, 197, 16)])
def test_small_shapes(device: torch.device, beams: int, size: int, keep: int) -> None:
    check(device, [4, 7, 9, 5], beams, size, keep, 64)


@pytest.mark.gpu
@pytest.mark.parametrize("size", VOCABULARIES)
def test_full_shapes(device: torch.device, size: int) -> None:
    launch = BatchLaunch()
    check(device, [4, 7, 30, 5], 5, size, 10, launch.candidates_block, launch.candidates_warps)
