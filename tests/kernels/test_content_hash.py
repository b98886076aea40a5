"""The hash of many tensors' content: equal to its reference bit for bit, and changed by whatever changes."""

import pytest
import torch

from whisper_speedup.kernels import content_hash as module
from whisper_speedup.kernels.content_hash import chunks_of, content_hash, content_hash_reference


def tensors(device: torch.device, word: torch.dtype, sizes: list[int]) -> list[torch.Tensor]:
    limit = torch.iinfo(word)
    return [torch.randint(limit.min, limit.max, (size,), dtype=word, device=device) for size in sizes]


@pytest.mark.parametrize("word", [torch.int16, torch.int32])
@pytest.mark.parametrize("strides", [[1, 1, 1, 1], [1, 7, 383, 5000]])
def test_it_is_the_references(
    device: torch.device, word: torch.dtype, strides: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    words = tensors(device, word, [1, 1000, 2501, 3000])
    found = content_hash(chunks_of(words, strides))
    assert torch.equal(found, content_hash_reference(words, strides))
    assert len(found.unique()) == len(found)


def test_a_changed_a_moved_and_an_unread_word(device: torch.device) -> None:
    (words,) = tensors(device, torch.int32, [1500])
    dense, sampled = chunks_of([words], [1]), chunks_of([words], [3])
    before = content_hash(dense), content_hash(sampled)
    words[1] ^= 1 << 31
    assert not torch.equal(content_hash(dense), before[0])
    assert torch.equal(content_hash(sampled), before[1])
    words[1] ^= 1 << 31
    assert torch.equal(content_hash(dense), before[0])
    words[[0, 3]] = words[[3, 0]]
    assert not torch.equal(content_hash(dense), before[0])
    assert not torch.equal(content_hash(sampled), before[1])


def test_nothing(device: torch.device) -> None:
    (words,) = tensors(device, torch.int16, [0])
    assert content_hash(chunks_of([words], [1])).numel() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("word", [torch.int16, torch.int32])
def test_full_shapes(device: torch.device, word: torch.dtype) -> None:
    words = tensors(device, word, [51865 * 1280, 1280 * 5120, 1280])
    for strides in ([1, 1, 1], [1279, 1279, 1]):
        assert torch.equal(content_hash(chunks_of(words, strides)), content_hash_reference(words, strides))
