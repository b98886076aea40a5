"""`marks`: what a call of `generate` sees of a model that has changed since the last one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_whisper import multilingual_whisper
from transformers import WhisperForConditionalGeneration

from whisper_speedup.optimize.watch import marks


def written_to(model: WhisperForConditionalGeneration) -> None:
    with torch.no_grad():
        model.model.decoder.layers[1].fc2.bias[0] += 1


def loaded(model: WhisperForConditionalGeneration) -> None:
    model.load_state_dict(model.state_dict())


def replaced(model: WhisperForConditionalGeneration) -> None:
    layer = model.model.encoder.layers[0]
    layer.fc1.weight = torch.nn.Parameter(layer.fc1.weight.clone())


def cast(model: WhisperForConditionalGeneration) -> None:
    model.half()


def another_module(model: WhisperForConditionalGeneration) -> None:
    """Of the same kind and with the same weights: they are where they were, but for one that is gone."""
    layer = model.model.decoder.layers[0]
    other = torch.nn.Linear(32, 32, bias=False)
    other.weight = layer.self_attn.q_proj.weight
    layer.self_attn.q_proj = other.eval()


def a_subclass(model: WhisperForConditionalGeneration) -> None:
    class Other(torch.nn.Linear):
        pass

    model.model.decoder.layers[0].fc1.__class__ = Other


def hooked(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].fc1.register_forward_hook(lambda *_: None)


def hooked_before(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].fc1.register_forward_pre_hook(lambda *_: None)


def hooked_backward(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].fc1.register_full_backward_hook(lambda *_: None)


def another_forward(model: WhisperForConditionalGeneration) -> None:
    model.model.encoder.layers[0].fc1.forward = lambda states: states


def in_training(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].self_attn.train()


def a_layer_less(model: WhisperForConditionalGeneration) -> None:
    del model.model.decoder.layers[1]


def a_module_more(model: WhisperForConditionalGeneration) -> None:
    model.model.decoder.layers[0].adapter = torch.nn.Identity().eval()


CHANGES: list[Callable[[WhisperForConditionalGeneration], None]] = [
    written_to, loaded, replaced, cast, another_module, a_subclass, hooked, hooked_before, hooked_backward,
    another_forward, in_training, a_layer_less, a_module_more,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen_once(change: Callable[[WhisperForConditionalGeneration], None]) -> None:
    model = multilingual_whisper(0)
    before = marks(model)
    assert marks(model) == before
    change(model)
    after = marks(model)
    assert after != before
    assert marks(model) == after


def test_a_hook_that_moves_is_seen() -> None:
    """The same hook on another module: its id is the same."""
    first, second = (multilingual_whisper(0).model.decoder.layers[0].fc1 for _ in range(2))
    both = torch.nn.ModuleList([first, second])
    first.register_forward_hook(lambda *_: None)
    before = marks(both)
    first._forward_hooks, second._forward_hooks = second._forward_hooks, first._forward_hooks
    assert marks(both) != before


def test_modules_and_weights_that_are_none() -> None:
    module: Any = torch.nn.Linear(2, 2, bias=False)
    module.add_module("nothing", None)
    assert marks(module) == marks(module)


def test_weights_made_of_those_that_inference_mode_made() -> None:
    """They are no inference tensors, and have no version either."""
    with torch.inference_mode():
        model = multilingual_whisper(0)
    model.half().float()
    assert marks(model) == marks(model)


def test_weights_that_inference_mode_made() -> None:
    """Nobody counts what is written to them; another place in memory is seen."""
    with torch.inference_mode():
        model = multilingual_whisper(0)
    before = marks(model)
    assert marks(model) == before
    with torch.inference_mode():
        model.model.decoder.layers[0].fc1.weight = torch.nn.Parameter(torch.zeros(64, 32), requires_grad=False)
    assert marks(model) != before
    with torch.no_grad():
        model.proj_out.weight = torch.nn.Parameter(torch.zeros(97, 32))  # this one counts
    seen = marks(model)
    with torch.no_grad():
        model.proj_out.weight[0] += 1
    assert marks(model) != seen
