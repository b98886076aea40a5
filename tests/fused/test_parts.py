"""Packed products, encoder, decoder step and cache against plain torch and transformers."""

import pytest
import torch
from tiny_whisper import tiny_features, tiny_whisper
from torch.nn.functional import gelu, linear

from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.decoder import prefill, step
from whisper_speedup.fused.encoder import Encoder
from whisper_speedup.fused.linear import Linear
from whisper_speedup.fused.weights import pack_decoder

CPU = torch.device("cpu")
# fp32 with another order of additions: a few units in the last place of values around 10.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 7, 3), (5, 32, 96), (17, 33, 65)])
@pytest.mark.parametrize("packed", [True, False])
def test_linear(rows: int, inputs: int, outputs: int, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not packed:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(rows, inputs)
    residual = torch.randn(rows, outputs)
    product = Linear(weight, bias)
    torch.testing.assert_close(product(x), linear(x, weight, bias), **CLOSE)
    torch.testing.assert_close(product.gelu(x), gelu(linear(x, weight, bias)), **CLOSE)
    torch.testing.assert_close(product.add(x, residual), linear(x, weight, bias) + residual, **CLOSE)
    torch.testing.assert_close(Linear(weight, None)(x), linear(x, weight), **CLOSE)


def test_encoder_equals_transformers() -> None:
    model = tiny_whisper(1)
    features = tiny_features(1)
    with torch.no_grad():
        expected = model.model.encoder(features).last_hidden_state[0]
        torch.testing.assert_close(Encoder(model, CPU, torch.float32)(features), expected, **CLOSE)


def test_steps_equal_a_full_pass_for_every_beams_own_history() -> None:
    """Beams that swap parents at random still see exactly their own tokens."""
    torch.manual_seed(0)
    model = tiny_whisper(2, layers=3)
    weights = pack_decoder(model, CPU, torch.float32)
    beams, prompt = 4, [2, 5, 9]
    cache = Cache(weights, beams, 64)
    states = torch.randn(20, 32)
    histories = [list(prompt) for _ in range(beams)]
    with torch.no_grad():
        cache.start(weights, states)
        logits = prefill(weights, cache, torch.tensor(prompt))
        torch.testing.assert_close(logits[0], _full(model, prompt, states), **CLOSE)
        for position in range(len(prompt), 20):
            parents, tokens = torch.randint(0, beams, (beams,)), torch.randint(0, 90, (beams,))
            histories = [[*histories[p], t] for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
            cache.reorder(parents)
            logits = step(weights, cache, tokens, position)
            for beam in range(beams):
                torch.testing.assert_close(logits[beam], _full(model, histories[beam], states), **CLOSE)


def _full(model: torch.nn.Module, tokens: list[int], states: torch.Tensor) -> torch.Tensor:
    out = model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=states[None])
    return torch.nn.functional.linear(out.last_hidden_state[0, -1], model.proj_out.weight)
