"""The decoder's input: token embedding plus position embedding.

    x_r = E[token_r] + P[position(r)]

A step's rows stand at one position, a prompt's rows at positions start, start + 1, ... The sum is rounded to the
weights' type first, as transformers' half-precision addition does, then kept in fp32.

Bytes: rows * d * 8; a launch and little else.
"""

import torch
import triton
import triton.language as tl


def embed_reference(
    tokens: torch.Tensor, embedding: torch.Tensor, positions: torch.Tensor, start: int, prompt: bool
) -> torch.Tensor:
    """tokens (rows,) int32 to (rows, d) fp32."""
    index = torch.arange(tokens.shape[0], device=tokens.device) + start if prompt else start
    return (embedding[tokens.long()] + positions[index]).float()


@triton.jit
def _embed_kernel(
    tokens_ptr, embedding_ptr, positions_ptr, start_ptr, x_ptr, d, PROMPT: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < d
    token = tl.load(tokens_ptr + row).to(tl.int64)
    position = tl.load(start_ptr)
    if PROMPT:
        position += row
    vector = tl.load(embedding_ptr + token * d + column, mask=inside, other=0.0).to(tl.float32)
    place = tl.load(positions_ptr + position * d + column, mask=inside, other=0.0).to(tl.float32)
    x = (vector + place).to(embedding_ptr.dtype.element_ty)
    tl.store(x_ptr + row * d + column, x.to(tl.float32), mask=inside)


def embed(
    tokens: torch.Tensor,
    embedding: torch.Tensor,
    positions: torch.Tensor,
    start: torch.Tensor,
    out: torch.Tensor,
    prompt: bool = False,
    block: int = 256,
) -> torch.Tensor:
    """Launch for tokens (rows,) int32; `start` int32 (1,) on the device. Returns `out` (rows, d) fp32."""
    rows, d = out.shape
    assert tokens.shape == (rows,) and tokens.dtype == torch.int32 and out.dtype == torch.float32
    assert embedding.is_contiguous() and positions.is_contiguous() and out.is_contiguous()
    _embed_kernel[(rows, triton.cdiv(d, block))](
        tokens, embedding, positions, start, out, d, prompt, block, num_warps=4
    )  # fmt: skip
    return out
