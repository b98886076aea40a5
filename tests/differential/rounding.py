"""Whether two answers differ by rounding alone, as plain transformers in float64 sees it.

Other tokens: it gives both hypotheses nearly the same score. Other scores: ours are about as far from its scores as
those of plain transformers in the model's own precision are, or as its own where each weight is off by a rounding.
Random weights can multiply such an error a thousandfold.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import EncoderDecoderCache

EOS = 1
# Per token. Weights and states in half precision have so few digits that everything computed of them is this far off.
NEAR = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.2}
FARTHER = 5  # times as far off as plain transformers
TRIES = 3  # models whose weights are off


def is_rounding(plain: Any, features: torch.Tensor, expected: Any, found: Any, exactly: Callable[[Any], Any]) -> bool:
    """Whether answers (run.Answer) differ by rounding. `exactly` answers the same call for a model in float64."""
    near = NEAR.get(plain.dtype)
    one, other = (sequences_of(answer.value) for answer in (expected, found))
    if near is None or not all(isinstance(rows, torch.Tensor) for rows in (one, other)) or len(one) != len(other):
        return False
    teacher = copy.deepcopy(plain).double()
    if torch.equal(one, other):
        eps = torch.finfo(plain.dtype).eps
        others = [expected.value, *(exactly(nearly(teacher, eps, seed)).value for seed in range(TRIES))]
        return scores_are_rounding(others, found.value, exactly(teacher).value)
    if len(expected.prompts) != 1:
        return False
    prompts, rows = expected.prompts[0], len(one)
    for row in range(rows):
        prompt = prompts[row * len(prompts) // rows].tolist()
        states = features[row * len(features) // rows][None].double()
        states = torch.nn.functional.pad(states, (0, 2 * plain.config.max_source_positions - states.shape[2]))
        try:
            scores = [score(teacher.eval(), states, prompt, tokens[row].tolist()) for tokens in (one, other)]
        except (IndexError, RuntimeError, ValueError):  # what transformers in float64 would not take
            return False
        if not abs(scores[0] - scores[1]) < near:
            return False
    return True


def sequences_of(value: Any) -> Any:
    """The tokens in what `generate` returns: alone, or in a dict with more."""
    return value.get("sequences", value) if isinstance(value, dict) else value


def nearly(model: Any, eps: float, seed: int) -> Any:
    """A copy of the model whose weights are off by about `eps`, relatively."""
    found, numbers = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in found.parameters():
            weight.mul_(1 + eps * torch.randn(weight.shape, generator=numbers, dtype=torch.float64))
    return found


def scores_are_rounding(others: list[Any], found: Any, exact: Any) -> bool:
    """Whether the floating-point values found are at most FARTHER times as far from the exact ones as some others."""
    right, ours = list(floats(exact)), list(floats(found))
    shapes = [one.shape for one in right]
    if not shapes or [one.shape for one in ours] != shapes:
        return False
    off = 0.0
    for other in map(list, map(floats, others)):
        if [one.shape for one in other] == shapes:
            off = max(off, farthest(other, right))
    return farthest(ours, right) <= FARTHER * off < float("inf")


def farthest(values: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The greatest distance; infinite where others are infinite."""
    one, other = (torch.cat([tensor.double().flatten() for tensor in part]) for part in (values, right))
    finite = other.isfinite()
    if not torch.equal(one[~finite], other[~finite]):
        return float("inf")
    return float((one - other)[finite].abs().max()) if finite.any() else 0.0


def floats(value: Any) -> Iterator[torch.Tensor]:
    """The floating-point tensors in what `generate` returns, caches included."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value.detach()
    elif isinstance(value, EncoderDecoderCache):
        for half in (value.self_attention_cache, value.cross_attention_cache):
            for layer in half.layers:
                yield from floats([layer.keys, layer.values])
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from floats(one)


@torch.no_grad()
def score(teacher: Any, features: torch.Tensor, prompt: list[int], tokens: list[int]) -> float:
    """Mean log-probability of the tokens before end-of-text (all of them, where there is none)."""
    tokens = tokens[: tokens.index(EOS)] if EOS in tokens else tokens
    if tokens[: len(prompt)] == prompt:
        tokens = tokens[len(prompt) :]
    ids = torch.tensor([prompt + tokens])
    logits = teacher(input_features=features, decoder_input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).mean())
