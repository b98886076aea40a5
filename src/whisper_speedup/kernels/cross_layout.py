"""Cross-attention's keys and values from the projection's layout into the persistent kernel's units, bias added.

    out[layer, head, unit, 0] = keys (2, 32 keys, 32);   out[layer, head, unit, 1] = values (64, 32 keys in its order)

persistent_packing.py says what a unit is and why; its `pack_cross` is this kernel's reference. A program moves four
units of one head: 128 keys and 64 numbers of each, read along the numbers and written along the layout. The bias comes
here because the product in front would otherwise begin by writing it into all of its output. Keys past the last are not
written: they stay the zeros that they were.

Bytes: as many read as written; large-v2 246 MB each, 0.16 ms at 3.0 TB/s. They are moved right behind their product,
some layers at a time, so that most are read from L2.
"""

import torch
import triton
import triton.language as tl

from whisper_speedup.kernels.persistent_plan import HEAD

UNIT_VALUES = 32 * HEAD  # of its keys, and of its values
UNITS = 4  # of one program


@triton.jit
def _cross_layout_kernel(x_ptr, bias_ptr, out_ptr, n, d, units, HEAD: tl.constexpr, KEYS: tl.constexpr):
    head, matrix = tl.program_id(1), tl.program_id(2).to(tl.int64)
    layer, is_value = matrix // 2, matrix % 2
    row = tl.program_id(0) * KEYS + tl.arange(0, KEYS)[:, None]
    unit, place = row // 32, row % 32
    column = tl.arange(0, HEAD)[None, :]
    # The value in place p belongs to key 8 i + 2 t + e, where p = 8 t + 2 i + e.
    key = tl.where(is_value == 1, (place % 8 // 2) * 8 + (place // 8) * 2 + place % 2, place)
    time = unit * 32 + key
    there = (time < n) & (column < HEAD)
    x = tl.load(x_ptr + (matrix * n + time) * d + head * HEAD + column, mask=there, other=0.0)
    bias = tl.load(bias_ptr + matrix * d + head * HEAD + column)
    x = (x.to(tl.float32) + bias.to(tl.float32)).to(out_ptr.dtype.element_ty)
    to = out_ptr + ((layer * (d // HEAD) + head) * units + unit) * (2 * 32 * HEAD)
    if is_value == 1:
        tl.store(to + 32 * HEAD + column * 32 + place, x, mask=there)
    else:
        tl.store(to + (column // 32) * (32 * 32) + place * 32 + column % 32, x, mask=there)


def cross_layout(projected: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """projected (2 layers, n, d), keys and values in turn, and bias (2 layers, 1, d) into out (layers, heads, units, 2,
    2048)."""
    matrices, n, d = projected.shape
    layers, heads, units, _, _ = out.shape
    assert matrices == 2 * layers and heads * HEAD == d and units * 32 >= n and bias.shape == (matrices, 1, d)
    assert projected.is_contiguous() and bias.is_contiguous() and out.is_contiguous()
    assert out.shape[3:] == (2, UNIT_VALUES)
    keys = 32 * UNITS
    _cross_layout_kernel[(triton.cdiv(n, keys), heads, matrices)](
        projected, bias, out, n, d, units, HEAD, keys, num_warps=4
    )
