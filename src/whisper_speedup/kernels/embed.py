"""The decoder's input: token embedding plus position embedding, into the residual stream.

    x_r = E[token_r] + P[position(r)]

A step's rows stand at one position, a prompt's rows at positions start, start + 1, ... The sum is rounded to the
weights' type first, as transformers' half-precision addition does, then kept in fp32. Like every writer of the
stream it leaves x * gamma and the partial sums for the layer norm that follows (stream.py).

Bytes: rows * d * 10; a launch and little else.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.stream import ROWS, Stream, leave_for_norm, let_next_start, pdl_option, wait_for_inputs


def embed_reference(
    tokens: torch.Tensor, embedding: torch.Tensor, positions: torch.Tensor, start: int, prompt: bool
) -> torch.Tensor:
    """tokens (rows,) int32 to (rows, d) fp32."""
    index = torch.arange(tokens.shape[0], device=tokens.device) + start if prompt else start
    return (embedding[tokens.long()] + positions[index]).float()


@triton.jit
def _embed_kernel(
    tokens_ptr,
    embedding_ptr,
    positions_ptr,
    start_ptr,
    r_ptr,
    gamma_ptr,
    scaled_ptr,
    sums_ptr,
    rows,
    d,
    PROMPT: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
    ROWS: tl.constexpr,
):
    part = tl.program_id(0)
    row = tl.arange(0, ROWS)
    cols = part * BLOCK + tl.arange(0, BLOCK)
    gamma = tl.load(gamma_ptr + cols, mask=cols < d, other=0.0).to(tl.float32)
    wait_for_inputs(PDL)
    let_next_start(PDL)
    live = row < rows
    inside = live[None, :] & (cols < d)[:, None]
    token = tl.load(tokens_ptr + row, mask=live, other=0).to(tl.int64)
    position = tl.load(start_ptr) + tl.zeros_like(row)
    if PROMPT:
        position += row
    vector = tl.load(embedding_ptr + token[None, :] * d + cols[:, None], mask=inside, other=0.0).to(tl.float32)
    place = tl.load(positions_ptr + position[None, :] * d + cols[:, None], mask=inside, other=0.0).to(tl.float32)
    x = (vector + place).to(embedding_ptr.dtype.element_ty).to(tl.float32)
    tl.store(r_ptr + row[None, :] * d + cols[:, None], x, mask=inside)
    leave_for_norm(x, inside, row, cols, gamma, scaled_ptr, sums_ptr, part, d, ROWS)


def embed(
    tokens: torch.Tensor,
    embedding: torch.Tensor,
    positions: torch.Tensor,
    start: torch.Tensor,
    stream: Stream,
    gamma: torch.Tensor,
    prompt: bool = False,
    block: int = 64,
    pdl: bool = False,
) -> Stream:
    """Launch for tokens (rows <= 8,) int32; `start` int32 (1,) on the device. Writes the stream's first rows."""
    rows, d = tokens.shape[0], stream.width
    assert rows <= ROWS and tokens.dtype == torch.int32 and embedding.shape[1] == d and block >= 8
    assert embedding.is_contiguous() and positions.is_contiguous()
    parts = triton.cdiv(d, block)
    _embed_kernel[(parts,)](
        tokens, embedding, positions, start, stream.residual, gamma, stream.scaled, stream.sums, rows, d, prompt, block,
        pdl, ROWS, num_warps=4, **pdl_option(pdl),
    )  # fmt: skip
    stream.wrote(parts)
    return stream
