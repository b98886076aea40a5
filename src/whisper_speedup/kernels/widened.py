"""Weights in 8 bits (eight_bits.py) in the activations' type, exactly, in registers.

A GPU's own conversion of int8 is one slow instruction for each number. So the number goes into the mantissa of an fp16
between 1024 and 1279, where one bit is 1, and what is too much is taken off:

    q = fp16(0x6400 | (q + 128)) - 1152

fp8 has an instruction that makes fp16 of two at once, from compute capability 8.9 on.
"""

import triton
import triton.language as tl


@triton.jit
def widened(w, dtype: tl.constexpr):
    """int8 or float8_e4m3fn values, as `dtype`."""
    if w.dtype == tl.int8:
        bits = (w.to(tl.uint8, bitcast=True) ^ 0x80).to(tl.uint16) | 0x6400
        w = bits.to(tl.float16, bitcast=True) - 1152.0
    return w.to(dtype)
