"""The order of operations in a Whisper decoder layer, written once.

    x <- x + out(self_attend(qkv(norm(x))));  x <- x + cross_out(cross_attend(query(norm(x))))
    x <- x + fc2(gelu(fc1(norm(x))))

Prompt, step and batch, plain torch and Triton kernels run this loop over operations of their own: which arithmetic,
which rows (slots x beams, or one sequence's tokens), where keys and values lie. The persistent kernel
(persistent_layers.py) states it once more, in CUDA, and its reference is this loop.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Normed = TypeVar("Normed")
Added = TypeVar("Added")
Normed_contra = TypeVar("Normed_contra", contravariant=True)
Added_contra = TypeVar("Added_contra", contravariant=True)


@dataclass(frozen=True)
class DecoderLayer(Generic[Normed, Added]):
    """One layer's products in reading order: those behind a norm, and those that add to the residual stream."""

    qkv: Normed
    self_out: Added
    query: Normed
    cross_out: Added
    fc1: Normed
    fc2: Added


class Ops(Protocol[Normed_contra, Added_contra]):
    """What a layer does to the residual stream. Each operation reads what the one before it left."""

    def qkv(self, index: int, product: Normed_contra) -> None:
        """Norm, and the product to self-attention's query, key and value."""

    def self_attend(self, index: int) -> None:
        """Keep key and value, and attend to those of the row's own past."""

    def add(self, product: Added_contra) -> None:
        """The product of what is there, added to the residual stream."""

    def normed(self, product: Normed_contra, gelu: bool = False) -> None:
        """Norm, the product, and GELU behind it."""

    def cross_attend(self, index: int) -> None:
        """Attend to the utterance's encoder states."""


def decoder_layers(ops: Ops[Normed, Added], layers: Iterable[DecoderLayer[Normed, Added]]) -> None:
    """Run all layers."""
    for index, layer in enumerate(layers):
        ops.qkv(index, layer.qkv)
        ops.self_attend(index)
        ops.add(layer.self_out)
        ops.normed(layer.query)
        ops.cross_attend(index)
        ops.add(layer.cross_out)
        ops.normed(layer.fc1, gelu=True)
        ops.add(layer.fc2)
