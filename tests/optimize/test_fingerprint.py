"""What a fingerprint sees of weights that change."""

import math

import pytest
import torch

from whisper_speedup.optimize import fingerprint
from whisper_speedup.optimize.fingerprint import Fingerprint, sample_stride, words_of

SHAPES = [(51864, 384), (384, 1536), (1536, 384), (384, 384), (384, 80, 3), (5, 7), (1, 9), (9, 1), (6, 6), (12,), (1,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sample_touches_every_row_and_every_column_and_few_values_more(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    columns = size // shape[0] if len(shape) > 1 else 1
    places = range(0, size, sample_stride(torch.Size(shape)))
    assert {place // columns for place in places} == set(range(shape[0]))
    assert {place % columns for place in places} == set(range(columns))
    assert len(places) <= 2 * max(shape[0], columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_one_value(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fingerprint.SMALL, "cpu", 0)
    weight, vector = torch.randn(6, 6).to(dtype), torch.zeros(3, dtype=dtype)
    taken = Fingerprint([weight, vector])
    places = set(range(0, 36, sample_stride(weight.shape)))
    for place in range(36):
        before = weight.view(-1)[place].clone()
        weight.view(-1)[place] += 1
        for everything in (False, True):
            taken.compare(everything)
            assert taken.differs() is (everything or place in places)
            assert taken.differs() is False, "it is asked once"
        weight.view(-1)[place] = before
    vector[1] = -0.0
    taken.compare(False)
    assert taken.differs(), "of a vector, all bits count"


def test_not_a_number_is_no_change() -> None:
    weight = torch.full((4, 4), float("nan"))
    taken = Fingerprint([weight])
    taken.compare(True)
    assert not taken.differs()


def test_memory_that_lies_otherwise() -> None:
    weight = torch.arange(12, dtype=torch.float32).view(3, 4).t()
    words = words_of(weight, 4)
    assert torch.equal(words.view(torch.float32), torch.arange(12, dtype=torch.float32))
    weight[0, 0] = 5
    assert words.view(torch.float32)[0] == 5, "no copy"


@pytest.mark.gpu
@pytest.mark.parametrize("small", [0, 2**30])
def test_on_a_gpu(device: torch.device, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fingerprint.SMALL, "cuda", small)
    weights = [torch.randn(300, 200, device=device).half(), torch.randn(7, device=device).half()]
    taken = Fingerprint(weights)
    assert isinstance(taken.content, fingerprint.OnDevice)
    for everything, place, seen in [(False, 0, True), (False, 1, small > 0), (True, 1, True), (True, 5, True)]:
        taken.compare(everything)
        assert not taken.differs()
        before = weights[0].view(-1)[place].clone()
        weights[0].view(-1)[place] += 1
        taken.compare(everything)
        assert taken.differs() is seen
        weights[0].view(-1)[place] = before
