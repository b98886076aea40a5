"""Attention in plain torch, for the few query rows of a decoder step."""

import torch
from torch.nn.functional import scaled_dot_product_attention


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Queries (rows, heads, head_dim) over keys and values (1, heads, n, head_dim) of all rows; returns (rows, d)."""
    attended = scaled_dot_product_attention(query.transpose(0, 1)[None], keys, values, attn_mask=mask, is_causal=causal)
    return attended[0].transpose(0, 1).reshape(query.shape[0], -1)


def attend_each(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Queries (rows, heads, head_dim), each over its own keys and values (rows, heads, n, head_dim); (rows, d)."""
    return scaled_dot_product_attention(query[:, :, None], keys, values).reshape(query.shape[0], -1)


def attend_transposed(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Queries (rows, heads, head_dim) over keys (heads, head_dim, n) and values (heads, n, head_dim); (rows, d)."""
    scores = torch.bmm(query.transpose(0, 1) * query.shape[-1] ** -0.5, keys)
    attended = torch.bmm(torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype), values)
    return attended.transpose(0, 1).reshape(query.shape[0], -1)
