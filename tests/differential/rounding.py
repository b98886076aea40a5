"""Whether two answers differ by rounding alone: transformers in float64 gives both hypotheses nearly the same score."""

import copy
from typing import Any

import torch

EOS = 1
# Per token. Weights and states in half precision have so few digits that everything computed of them is this far off.
NEAR = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.2}


def is_rounding(plain: Any, features: torch.Tensor, expected: Any, found: Any) -> bool:
    """Whether plain transformers in float64 scores each row's two hypotheses alike, to NEAR per token; of half
    precision also whether only scores differ."""
    near = NEAR.get(plain.dtype)
    one, other = (getattr(answer.value, "sequences", answer.value) for answer in (expected, found))
    if near is None or not all(isinstance(rows, torch.Tensor) for rows in (one, other)) or len(one) != len(other):
        return False
    if torch.equal(one, other):
        return plain.dtype != torch.float32
    if len(expected.prompts) != 1:
        return False
    teacher = copy.deepcopy(plain).double().eval()
    prompts, rows = expected.prompts[0], len(one)
    for row in range(rows):
        prompt = prompts[row * len(prompts) // rows].tolist()
        states = features[row * len(features) // rows][None].double()
        scores = [score(teacher, states, prompt, tokens[row].tolist()) for tokens in (one, other)]
        if not abs(scores[0] - scores[1]) < near:
            return False
    return True


@torch.no_grad()
def score(teacher: Any, features: torch.Tensor, prompt: list[int], tokens: list[int]) -> float:
    """Mean log-probability of the tokens before end-of-text (all of them, where there is none)."""
    tokens = tokens[: tokens.index(EOS)] if EOS in tokens else tokens
    if tokens[: len(prompt)] == prompt:
        tokens = tokens[len(prompt) :]
    ids = torch.tensor([prompt + tokens])
    logits = teacher(input_features=features, decoder_input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).mean())
