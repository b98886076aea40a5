"""A hash of what many tensors hold, or of every n-th word of it, in one launch.

    H_c = sum over i < count_c of mix(w_(i stride_c) xor (first_c + i) * 0x9E3779B9)  mod 2^64

for each chunk c of a table: w are its 2- or 4-byte words from an address on, `first_c` is the index of the chunk's
first word in its tensor, and mix is MurmurHash3's 32-bit finaliser. A word counts with its place, so what only changes
places is seen, too.

Bytes: all of them with stride 1; else a sector of 32 for each word, and 32 a chunk for the table.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

CHUNK = 2**16  # words of a chunk at most: with stride 1 a large-v2 makes 12,000 chunks
BLOCK = 1024
GOLDEN, FIRST, SECOND = tl.constexpr(0x9E3779B9), tl.constexpr(0x85EBCA6B), tl.constexpr(0xC2B2AE35)


@dataclass(frozen=True)
class Chunks:
    """`table` (chunks, 4) int64 on the device: address, stride in words, count, index of the first word. Holds no
    tensor: who launches over it knows that the addresses are still those of the tensors."""

    table: torch.Tensor
    word_bytes: int


def chunks_of(words: list[torch.Tensor], strides: list[int]) -> Chunks:
    """The table for flat tensors of 2- or 4-byte words, of one type and device, and a stride for each."""
    word_bytes = words[0].itemsize
    rows = []
    for tensor, stride in zip(words, strides, strict=True):
        assert tensor.dim() == 1 and tensor.itemsize == word_bytes and word_bytes in (2, 4)
        assert tensor.stride(0) == 1 or tensor.numel() < 2
        count = -(-tensor.numel() // stride)
        for first in range(0, count, CHUNK):
            address = tensor.data_ptr() + first * stride * word_bytes
            rows.append((address, stride, min(CHUNK, count - first), first))
    return Chunks(torch.tensor(rows, dtype=torch.int64, device=words[0].device).view(-1, 4), word_bytes)


def content_hash_reference(words: list[torch.Tensor], strides: list[int]) -> torch.Tensor:
    """(chunks,) int64, the hashes of the table that `chunks_of` makes of the same arguments."""
    hashes = []
    mask = 0xFFFFFFFF
    for tensor, stride in zip(words, strides, strict=True):
        taken = tensor[::stride].long() & (2 ** (8 * tensor.itemsize) - 1)
        index = torch.arange(taken.numel(), device=taken.device)
        mixed = taken ^ (index * GOLDEN.value & mask)
        # A product of two 32-bit numbers wraps around in int64 and keeps its low bits.
        mixed = (mixed ^ mixed >> 16) * FIRST.value & mask
        mixed = (mixed ^ mixed >> 13) * SECOND.value & mask
        mixed = mixed ^ mixed >> 16
        hashes += [part.sum() for part in mixed.split(CHUNK) if part.numel()]
    return torch.stack(hashes) if hashes else torch.zeros(0, dtype=torch.int64)


@triton.jit
def _content_hash_kernel(table_ptr, out_ptr, WORD_BYTES: tl.constexpr, BLOCK: tl.constexpr):
    chunk = tl.program_id(0).to(tl.int64)
    address = tl.load(table_ptr + 4 * chunk)
    stride = tl.load(table_ptr + 4 * chunk + 1)
    count = tl.load(table_ptr + 4 * chunk + 2).to(tl.int32)
    first = tl.load(table_ptr + 4 * chunk + 3)
    if WORD_BYTES == 2:
        words = address.to(tl.pointer_type(tl.uint16))
    else:
        words = address.to(tl.pointer_type(tl.uint32))
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.int64)
    for begin in range(0, count, BLOCK):
        index = begin + lane
        inside = index < count
        word = tl.load(words + index * stride, mask=inside, other=0).to(tl.uint32)
        mixed = word ^ ((first + index).to(tl.uint32) * GOLDEN)
        mixed = (mixed ^ (mixed >> 16)) * FIRST
        mixed = (mixed ^ (mixed >> 13)) * SECOND
        mixed = mixed ^ (mixed >> 16)
        total += tl.where(inside, mixed.to(tl.int64), 0)
    tl.store(out_ptr + chunk, tl.sum(total, axis=0))


def content_hash(chunks: Chunks) -> torch.Tensor:
    """Launch for a table; returns (chunks,) int64. The addresses must be those of living tensors."""
    table = chunks.table
    out = torch.empty(table.shape[0], dtype=torch.int64, device=table.device)
    if table.shape[0]:
        _content_hash_kernel[(table.shape[0],)](table, out, chunks.word_bytes, BLOCK, num_warps=4)
    return out
