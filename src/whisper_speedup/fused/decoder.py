"""The decoder in plain torch: the prompt once at batch 1, then one token for each beam."""

import torch
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.weights import DecoderWeights, LayerWeights, Norm


def prefill(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor) -> torch.Tensor:
    """Run the prompt (length,) at batch 1 and fill row 0 of the cache; returns the last position's logits (1, V)."""
    length = tokens.shape[0]
    states = weights.embedding[tokens] + weights.positions[:length]
    for index, layer in enumerate(weights.layers):
        query, key, value = _qkv(weights, layer, states)
        cache.write_prompt(index, key, value)
        attended = _attend(query, key.transpose(0, 1)[None], value.transpose(0, 1)[None], causal=True)
        states = _after_self_attention(weights, layer, states, attended, cache, index)
    return _logits(weights, states[-1:])


def step(weights: DecoderWeights, cache: Cache, tokens: torch.Tensor, position: int) -> torch.Tensor:
    """Run one token a beam, (beams,), at `position`; returns logits (beams, V). Reads keys through the ancestry."""
    states = weights.embedding[tokens] + weights.positions[position]
    mask = cache.visible(position)
    filled = (position + 1) * cache.beams
    for index, layer in enumerate(weights.layers):
        query, key, value = _qkv(weights, layer, states)
        cache.write(index, position, key, value)
        keys, values = cache.keys[index][:, :, :filled], cache.values[index][:, :, :filled]
        attended = _attend(query, keys, values, mask=mask)
        states = _after_self_attention(weights, layer, states, attended, cache, index)
    return _logits(weights, states)


def _qkv(
    weights: DecoderWeights, layer: LayerWeights, states: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of (rows, d), each (rows, heads, head_dim)."""
    product = layer.qkv(_norm(states, layer.self_norm))
    query, key, value = product.view(-1, 3, weights.heads, weights.head_dim).unbind(1)
    return query, key, value


def _after_self_attention(
    weights: DecoderWeights,
    layer: LayerWeights,
    states: torch.Tensor,
    attended: torch.Tensor,
    cache: Cache,
    index: int,
) -> torch.Tensor:
    """The rest of a layer: output product, cross-attention, feed-forward, each with its residual."""
    states = layer.self_out.add(attended, states)
    query = layer.cross_query(_norm(states, layer.cross_norm)).view(-1, weights.heads, weights.head_dim)
    attended = _cross_attend(query, cache.cross_keys[index], cache.cross_values[index])
    states = layer.cross_out.add(attended, states)
    hidden = layer.fc1.gelu(_norm(states, layer.mlp_norm))
    return layer.fc2.add(hidden, states)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Queries (rows, heads, head_dim) over keys and values (1, heads, n, head_dim); returns (rows, d)."""
    attended = scaled_dot_product_attention(query.transpose(0, 1)[None], keys, values, attn_mask=mask, is_causal=causal)
    return attended[0].transpose(0, 1).reshape(query.shape[0], -1)


def _cross_attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Queries (rows, heads, head_dim) over keys (heads, head_dim, n) and values (heads, n, head_dim); (rows, d)."""
    scores = torch.bmm(query.transpose(0, 1) * query.shape[-1] ** -0.5, keys)
    attended = torch.bmm(torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype), values)
    return attended.transpose(0, 1).reshape(query.shape[0], -1)


def _norm(states: torch.Tensor, norm: Norm) -> torch.Tensor:
    return layer_norm(states, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _logits(weights: DecoderWeights, states: torch.Tensor) -> torch.Tensor:
    return weights.projection(_norm(states, weights.norm))
