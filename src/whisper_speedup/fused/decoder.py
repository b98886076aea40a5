"""The decoder in plain torch: the prompt once at batch 1, then one token for each beam, of one utterance or several."""

from collections.abc import Sequence

import torch
from torch.nn.functional import layer_norm

from whisper_speedup.fused.attention import attend
from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.weights import DecoderWeights, LayerWeights, Norm


def prefill(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor) -> torch.Tensor:
    """Run the prompt (length,) at batch 1 and fill row 0 of the cache; returns the last position's logits (1, V)."""
    length = tokens.shape[0]
    states = weights.embedding[tokens] + weights.positions[:length]
    for index, layer in enumerate(weights.layers):
        query, key, value = _qkv(weights, layer, states)
        cache.past.write_prompt(index, key, value)
        attended = attend(query, key.transpose(0, 1)[None], value.transpose(0, 1)[None], causal=True)
        states, query = _to_cross_attention(weights, layer, states, attended)
        states = _to_the_end(layer, states, cache.cross.attend_prompt(index, query))
    return _logits(weights, states[-1:])


def step(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor, position: int) -> torch.Tensor:
    """Run one token a beam, (beams,), at `position`; returns logits (beams, V)."""
    states = weights.embedding[tokens] + weights.positions[position]
    cache.past.begin_step(position)
    for index, layer in enumerate(weights.layers):
        query, key, value = _qkv(weights, layer, states)
        states, query = _to_cross_attention(weights, layer, states, cache.past.attend(index, query, key, value))
        states = _to_the_end(layer, states, cache.cross.attend(index, query))
    return _logits(weights, states)


def batch_step(
    weights: DecoderWeights, caches: Sequence[Cache], tokens: torch.Tensor, positions: Sequence[int]
) -> torch.Tensor:
    """One token for each beam of several utterances, (utterances * beams,), each utterance at a position of its own in
    a cache of its own; returns logits (utterances * beams, V)."""
    beams = tokens.shape[0] // len(caches)
    at = torch.tensor(positions, device=tokens.device).repeat_interleave(beams)
    states = weights.embedding[tokens] + weights.positions[at]
    for cache, position in zip(caches, positions, strict=True):
        cache.past.begin_step(position)
    for index, layer in enumerate(weights.layers):
        parts = zip(caches, *(part.split(beams) for part in _qkv(weights, layer, states)), strict=True)
        attended = torch.cat([cache.past.attend(index, *part) for cache, *part in parts])
        states, query = _to_cross_attention(weights, layer, states, attended)
        crossed = [cache.cross.attend(index, part) for cache, part in zip(caches, query.split(beams), strict=True)]
        states = _to_the_end(layer, states, torch.cat(crossed))
    return _logits(weights, states)


def _qkv(
    weights: DecoderWeights, layer: LayerWeights, states: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of (rows, d), each (rows, heads, head_dim)."""
    product = layer.qkv(_norm(states, layer.self_norm))
    query, key, value = product.view(-1, 3, weights.heads, weights.head_dim).unbind(1)
    return query, key, value


def _to_cross_attention(
    weights: DecoderWeights, layer: LayerWeights, states: torch.Tensor, attended: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Self-attention's output product with its residual, and cross-attention's query (rows, heads, head_dim)."""
    states = layer.self_out.add(attended, states)
    return states, layer.cross_query(_norm(states, layer.cross_norm)).view(-1, weights.heads, weights.head_dim)


def _to_the_end(layer: LayerWeights, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Cross-attention's output product and the feed-forward layers, each with its residual."""
    states = layer.cross_out.add(attended, states)
    hidden = layer.fc1.gelu(_norm(states, layer.mlp_norm))
    return layer.fc2.add(hidden, states)


def _norm(states: torch.Tensor, norm: Norm) -> torch.Tensor:
    return layer_norm(states, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _logits(weights: DecoderWeights, states: torch.Tensor) -> torch.Tensor:
    return weights.projection(_norm(states, weights.norm))
