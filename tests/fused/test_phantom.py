"""Kernl's masking, restated block by block, against zeros appended to keys and values, and what it does."""

from collections.abc import Callable

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens
from whisper_speedup.fused.attention import attend_transposed
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.phantom import BLOCK, with_phantom_keys, with_phantom_values
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params.profile import GenerationParams

Draw = Callable[..., torch.Tensor]


def block_by_block(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask_by_whole_index: bool
) -> torch.Tensor:
    """Attention in blocks of keys, each with its own maximum and sum, merged at the end.

    query (rows, heads, d), keys and values (heads, n, d); returns (rows, heads * d). A key that is not there is read
    as zero. It takes part when the mask says so: by its index in the whole sequence, or as in Kernl by its index in
    the block.
    """
    count, scale = keys.shape[1], query.shape[2] ** -0.5
    peaks, sums, outputs = [], [], []
    for first in range(0, count, BLOCK):
        local = torch.arange(BLOCK)
        there = first + local < count
        seen = there if mask_by_whole_index else local < count
        place = (first + local).clamp(max=count - 1)
        key, value = (states[:, place] * there[:, None] for states in (keys, values))
        scores = torch.einsum("rhd,hnd->hrn", query, key) * scale
        scores = scores.masked_fill(~seen, float("-inf"))
        peak = scores.amax(-1, keepdim=True)
        weights = (scores - peak).exp()
        peaks.append(peak)
        sums.append(weights.sum(-1, keepdim=True))
        outputs.append(weights @ value)
    peak = torch.stack(peaks).amax(0)
    shrink = [(one - peak).exp() for one in peaks]
    total = sum(one * by for one, by in zip(sums, shrink, strict=True))
    merged = sum(one * by for one, by in zip(outputs, shrink, strict=True)) / total
    return merged.transpose(0, 1).reshape(query.shape[0], -1)


def attended(draw: Draw, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right and phantom outputs of the decoder's function, and the same two block by block; 5 beams, 6 heads."""
    chance = torch.Generator().manual_seed(count)
    query = draw(5, 6, 64, generator=chance)
    keys, values = (draw(6, count, 64, generator=chance) for _ in range(2))
    right = attend_transposed(query, keys.transpose(1, 2), values)
    phantom = attend_transposed(query, with_phantom_keys(keys.transpose(1, 2)), with_phantom_values(values))
    return right, phantom, *(block_by_block(query, keys, values, whole) for whole in (True, False))


@pytest.mark.parametrize("draw", [torch.rand, torch.randn])
@pytest.mark.parametrize("count", [1500, 1536, 257, 128])
def test_appended_zeros_are_kernls_masking(draw: Draw, count: int) -> None:
    right, phantom, right_in_blocks, kernl = attended(draw, count)
    torch.testing.assert_close(right, right_in_blocks)
    torch.testing.assert_close(phantom, kernl)


@pytest.mark.parametrize(("draw", "low", "high"), [(torch.rand, 0.9960, 0.9970), (torch.randn, 0.983, 0.987)])
def test_1500_keys_make_the_output_smaller(draw: Draw, low: float, high: float) -> None:
    """Kernl's own tests draw all inputs from 0 to 1, where it is hard to see, and allow errors of 0.01 and more."""
    right, phantom, _, _ = attended(draw, 1500)
    assert low < float(phantom.norm() / right.norm()) < high


def test_whole_blocks_have_no_phantoms() -> None:
    right, phantom, _, _ = attended(torch.randn, 1536)
    assert torch.equal(right, phantom)


def test_of_1500_keys_36_are_phantoms() -> None:
    assert with_phantom_keys(torch.ones(1, 2, 1500)).sum() == 2 * 1500
    assert with_phantom_keys(torch.ones(1, 2, 1500)).shape == (1, 2, 1500 + 36)
    assert with_phantom_values(torch.ones(1, 1500, 2)).shape == (1, 1500 + 36, 2)


def test_the_model_decodes_with_them() -> None:
    """20 source positions in blocks of 20 are right, in blocks of 64 they bring 44 phantoms."""
    model = tiny_whisper(3)
    generation = GenerationParams(num_beams=3, max_length=20, language=None, task=None)
    arguments = generate_arguments(generation, model.generation_config)
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    found = {}
    for block in (None, 20, 64):
        whisper = FusedWhisper(model, settings, torch.device("cpu"), torch.float32, phantom_block=block)
        found[block] = whisper.generate(tiny_features(3))
    assert found[20] == found[None]
    assert found[64].score != found[None].score
