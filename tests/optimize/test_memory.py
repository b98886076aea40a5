"""A hundred and fifty calls of varying length leave nothing behind."""

import gc
from collections.abc import Iterator

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForConditionalGeneration

from whisper_speedup import optimize_model
from whisper_speedup.optimize.torch_store import TorchStore


def live_tensors() -> tuple[int, int]:
    """How many tensors there are, and their bytes."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return len(tensors), sum(one.numel() * one.element_size() for one in tensors)


def call(model: WhisperForConditionalGeneration, number: int) -> None:
    """One of many: lengths, beams and prompts vary."""
    prompt = torch.full((1 + number % 20,), 44) if number % 3 == 0 else None
    model.generate(
        tiny_features(number % 7).to(model.device), max_new_tokens=1 + number % 4, num_beams=1 + number % 3,
        language="en", prompt_ids=prompt,
    )  # fmt: skip


@pytest.mark.parametrize("whole", [pytest.param(False, marks=pytest.mark.slow), True])
def test_tensors_do_not_pile_up(whole: bool) -> None:
    model = multilingual_whisper(1, layers=1)
    optimize_model(model if whole else model.model.decoder)
    # The buffers of the last few settings are kept, so both readings follow the same calls.
    for number in range(30):
        call(model, number)
    before = live_tensors()
    for number in [*range(150), *range(30)]:
        call(model, number)
    assert live_tensors() == before


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's collector of cycles off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_store_goes_with_its_cache(no_collector: None, whole: bool) -> None:
    """At once, without the collector: a store may hold a GPU's memory, which the collector does not see filling."""
    model = multilingual_whisper(1, layers=1)
    optimize_model(model if whole else model.model.decoder)
    for number in range(7):
        call(model, number)
        assert not [one for one in gc.get_objects() if type(one) is TorchStore]
    with torch.no_grad():
        states = model.model.encoder(tiny_features(1)).last_hidden_state
        result = model.model.decoder(torch.tensor([[2]]), encoder_hidden_states=states, use_cache=True)
    assert len([one for one in gc.get_objects() if type(one) is TorchStore]) == 1
    del result
    assert not [one for one in gc.get_objects() if type(one) is TorchStore]


@pytest.mark.gpu
@pytest.mark.parametrize("whole", [False, True])
def test_gpu_memory_does_not_grow(whole: bool) -> None:
    model = multilingual_whisper(1, layers=1, width=64).half().to("cuda")
    optimize_model(model if whole else model.model.decoder)

    def run(count: int) -> int:
        for number in range(count):
            prompt = torch.full((1 + number % 20,), 44, device="cuda") if number % 3 == 0 else None
            model.generate(
                tiny_features(number % 7).half().to("cuda"), max_new_tokens=1 + number % 30, num_beams=1 + number % 3,
                language="en", prompt_ids=prompt,
            )  # fmt: skip
        torch.cuda.synchronize()
        gc.collect()
        return torch.cuda.memory_allocated()

    # The buffers of the last few settings are kept, so both readings follow the same calls.
    before = run(90)
    run(500)
    assert run(90) == before
