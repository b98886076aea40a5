"""What ends a block and begins the next, for many rows: bias, residual and the layer norm that follows.

    r <- clamp(r + x + b);   y = (r - mean) / sqrt(var + eps) * gamma + beta

One program a row, statistics in fp32 over the row that is in registers. r is in fp32 in the decoder (as stream.py keeps
it) and in the weights' type in the encoder, where `limit` keeps fp16 states short of overflow as transformers does; NaN
passes. Without `beta` the offset is in the product that follows (device_weights.py). `embed_rows` is the decoder's
input, from token and position embeddings, with the same norm behind it.

Bytes: rows * d * (2 for x, 2 for y, twice r's size); in the encoder of large-v2 15.4 MB an utterance and block, 5.1 us
at 3.0 TB/s.
"""

import torch
import triton
import triton.language as tl


def add_norm_reference(
    residual: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None,
    eps: float,
    limit: float = float("inf"),
) -> tuple[torch.Tensor, torch.Tensor]:
    """residual and x (rows, d), bias, gamma and beta (d,): the new residual in its type, and its norm in fp32."""
    added = (residual.float() + x.float() + bias.float()).clamp(-limit, limit).to(residual.dtype)
    return added, norm_reference(added, gamma, beta, eps)


def norm_reference(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor | None, eps: float) -> torch.Tensor:
    """The layer norm of x (rows, d), in fp32."""
    offset = None if beta is None else beta.float()
    return torch.nn.functional.layer_norm(x.float(), gamma.shape, gamma.float(), offset, eps)


@triton.jit
def _write_norm(x, y_ptr, gamma_ptr, beta_ptr, cols, inside, d, eps, BETA: tl.constexpr):
    mean = tl.sum(tl.where(inside, x, 0.0), axis=0) / d
    centred = tl.where(inside, x - mean, 0.0)
    y = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / d + eps)
    y = y * tl.load(gamma_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    if BETA:
        y += tl.load(beta_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + cols, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm_kernel(
    r_ptr,
    x_ptr,
    bias_ptr,
    gamma_ptr,
    beta_ptr,
    y_ptr,
    d,
    eps,
    limit,
    BETA: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < d
    x = tl.load(x_ptr + row * d + cols, mask=inside, other=0.0).to(tl.float32)
    r = tl.load(r_ptr + row * d + cols, mask=inside, other=0.0).to(tl.float32)
    r = r + x + tl.load(bias_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    r = tl.where(r > limit, limit, r)  # and not minimum(), which may lose NaN
    r = tl.where(r < -limit, -limit, r).to(r_ptr.dtype.element_ty)
    tl.store(r_ptr + row * d + cols, r, mask=inside)
    _write_norm(r.to(tl.float32), y_ptr + row * d, gamma_ptr, beta_ptr, cols, inside, d, eps, BETA)


@triton.jit
def _embed_rows_kernel(
    tokens_ptr,
    prompt_ptr,
    position_ptr,
    embedding_ptr,
    places_ptr,
    gamma_ptr,
    r_ptr,
    y_ptr,
    d,
    eps,
    prompt_length,
    most_positions,
    BEAMS: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    slot = row // BEAMS
    beam = row - slot * BEAMS
    position = tl.load(position_ptr + slot)
    token = tl.load(tokens_ptr + slot * STRIDE + beam)
    if position < prompt_length:  # the rows are the prompt's tokens, the last one again where there are fewer
        position = tl.minimum(position + beam, prompt_length - 1)
        token = tl.load(prompt_ptr + position)
    position = tl.minimum(position, most_positions - 1)  # a slot that has ended at the limit stands behind it
    cols = tl.arange(0, BLOCK)
    inside = cols < d
    vector = tl.load(embedding_ptr + token.to(tl.int64) * d + cols, mask=inside, other=0.0).to(tl.float32)
    place = tl.load(places_ptr + position.to(tl.int64) * d + cols, mask=inside, other=0.0).to(tl.float32)
    r = (vector + place).to(embedding_ptr.dtype.element_ty).to(tl.float32)
    tl.store(r_ptr + row * d + cols, r, mask=inside)
    _write_norm(r, y_ptr + row * d, gamma_ptr, gamma_ptr, cols, inside, d, eps, False)


def add_norm(
    residual: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None,
    out: torch.Tensor,
    eps: float,
    limit: float = float("inf"),
    num_warps: int = 4,
) -> torch.Tensor:
    """Launch for residual and x (rows, d): `residual` is updated in place. Returns `out` (rows, d)."""
    rows, d = residual.shape
    assert x.shape == out.shape == (rows, d) and bias.shape == gamma.shape == (d,)
    assert residual.is_contiguous() and x.is_contiguous() and out.is_contiguous()
    _add_norm_kernel[(rows,)](
        residual, x, bias, gamma, gamma if beta is None else beta, out, d, eps, limit, beta is not None,
        triton.next_power_of_2(d), num_warps=num_warps,
    )  # fmt: skip
    return out


def embed_rows(
    tokens: torch.Tensor,
    prompt: torch.Tensor,
    position: torch.Tensor,
    embedding: torch.Tensor,
    places: torch.Tensor,
    gamma: torch.Tensor,
    residual: torch.Tensor,
    out: torch.Tensor,
    eps: float,
    beams: int,
    num_warps: int = 4,
) -> torch.Tensor:
    """Launch for residual (slots * beams, d) fp32; `tokens` (slots or more, 16), `prompt` (length,) and `position`
    (slots or more,) int32: a slot whose position is within the prompt takes `beams` tokens of it. Returns `out`.
    """
    rows, d = residual.shape
    assert rows % beams == 0 and rows // beams <= position.shape[0] and beams <= tokens.shape[1]
    assert residual.is_contiguous() and out.is_contiguous() and out.shape == (rows, d)
    _embed_rows_kernel[(rows,)](
        tokens, prompt, position, embedding, places, gamma, residual, out, d, eps, prompt.shape[0], places.shape[0],
        beams, tokens.shape[1], triton.next_power_of_2(d), num_warps=num_warps,
    )  # fmt: skip
    return out
