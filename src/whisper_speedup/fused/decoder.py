"""The decoder in plain torch: the prompt once at batch 1, then one token for each beam, of one utterance or several."""

from collections.abc import Callable, Sequence

import torch

from whisper_speedup.fused.attention import attend
from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.linear import Linear
from whisper_speedup.fused.weights import DecoderWeights, LayerStack, NormedLinear
from whisper_speedup.kernels.decoder_layers import decoder_layers

# (layer, query, key, value), each (rows, heads, head_dim), and (layer, query): both return (rows, d).
SelfAttend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
CrossAttend = Callable[[int, torch.Tensor], torch.Tensor]


class TorchOps:
    """See Ops. `states` (rows, d) is the residual stream; the attentions are the caller's, who keeps the states."""

    def __init__(
        self, weights: LayerStack, states: torch.Tensor, self_attention: SelfAttend, cross_attention: CrossAttend
    ) -> None:
        self.states, self.out = states, states
        self.heads, self.head_dim = weights.heads, weights.head_dim
        self.self_attention, self.cross_attention = self_attention, cross_attention

    def qkv(self, index: int, product: NormedLinear) -> None:
        """See Ops."""
        self.out = product(self.states)

    def self_attend(self, index: int) -> None:
        """See Ops."""
        query, key, value = self.out.view(-1, 3, self.heads, self.head_dim).unbind(1)
        self.out = self.self_attention(index, query, key, value)

    def add(self, product: Linear) -> None:
        """See Ops."""
        self.states = product.add(self.out, self.states)

    def normed(self, product: NormedLinear, gelu: bool = False) -> None:
        """See Ops."""
        self.out = product.gelu(self.states) if gelu else product(self.states)

    def cross_attend(self, index: int) -> None:
        """See Ops."""
        self.out = self.cross_attention(index, self.out.view(-1, self.heads, self.head_dim))


def run_layers(
    weights: LayerStack, states: torch.Tensor, self_attention: SelfAttend, cross_attention: CrossAttend
) -> torch.Tensor:
    """All layers and the last norm over `states` (rows, d), embedding and position added; returns (rows, d)."""
    ops = TorchOps(weights, states, self_attention, cross_attention)
    decoder_layers(ops, weights.layers)
    return weights.norm(ops.states)


def prefill(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor) -> torch.Tensor:
    """Run the prompt (length,) at batch 1 and fill row 0 of the cache; returns the last position's logits (1, V)."""

    def attend_prompt(index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        cache.past.write_prompt(index, key, value)
        return attend(query, key.transpose(0, 1)[None], value.transpose(0, 1)[None], causal=True)

    states = weights.embedding[tokens] + weights.positions[: tokens.shape[0]]
    return weights.projection(run_layers(weights, states, attend_prompt, cache.cross.attend_prompt)[-1:])


def step(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor, position: int) -> torch.Tensor:
    """Run one token a beam, (beams,), at `position`; returns logits (beams, V)."""
    states = weights.embedding[tokens] + weights.positions[position]
    cache.past.begin_step(position)
    return weights.projection(run_layers(weights, states, cache.past.attend, cache.cross.attend))


def batch_step(
    weights: DecoderWeights, caches: Sequence[Cache], tokens: torch.Tensor, positions: Sequence[int]
) -> torch.Tensor:
    """One token for each beam of several utterances, (utterances * beams,), each utterance at a position of its own in
    a cache of its own; returns logits (utterances * beams, V)."""
    beams = tokens.shape[0] // len(caches)
    at = torch.tensor(positions, device=tokens.device).repeat_interleave(beams)
    for cache, position in zip(caches, positions, strict=True):
        cache.past.begin_step(position)

    def attend_past(index: int, *qkv: torch.Tensor) -> torch.Tensor:
        parts = zip(caches, *(one.split(beams) for one in qkv), strict=True)
        return torch.cat([cache.past.attend(index, *part) for cache, *part in parts])

    def attend_cross(index: int, query: torch.Tensor) -> torch.Tensor:
        parts = zip(caches, query.split(beams), strict=True)
        return torch.cat([cache.cross.attend(index, part) for cache, part in parts])

    states = weights.embedding[tokens] + weights.positions[at]
    return weights.projection(run_layers(weights, states, attend_past, attend_cross))
