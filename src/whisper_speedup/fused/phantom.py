"""Kernl's masking of cross-attention keys, to measure what it does to the text (engine kernl_phantom).

Kernl's cross-attention reads keys in blocks of 128. Whether a key is there it decides by the key's index inside its
block, compared with the count of all keys: 0 to 127 are below 1500 in every block, the last one too. Of 1500 keys the
last block holds 92, so 36 that are not there take part. They are read as zeros, so each has the score 0, weighs
exp(0) in the denominator of the softmax and adds nothing to the values. The output is too small by the share of the
weight that the 36 take, which depends on the query and the head. (ELS-RD/kernl at 91e2cd9, attention_skinny.py,
line 191, and attention.py, line 343.)

Zeros appended to keys and values say the same: q * 0 is the score 0, and a value of 0 adds nothing.
"""

import torch
from torch.nn.functional import pad

BLOCK = 128  # keys that one of Kernl's programs reads


def with_phantom_keys(keys: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """Keys (heads, head_dim, n), padded with zeros to whole blocks: (heads, head_dim, n rounded up)."""
    return pad(keys, (0, -keys.shape[2] % block))


def with_phantom_values(values: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """Values (heads, n, head_dim), padded with zeros to whole blocks: (heads, n rounded up, head_dim)."""
    return pad(values, (0, 0, 0, -values.shape[1] % block))
