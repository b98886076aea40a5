"""Keys and values of one utterance, and the ancestry table that says which of them a beam may see.

Beam reorder moves no keys or values. Position t of row r is written once, at slot t * beams + r, and stays. A table
(beams, positions) says which row holds each beam's position t; choosing new beams permutes that small table, and
self-attention masks out the slots that are not a beam's own. Cross-attention keys and values are the same for every
beam and never change within an utterance, so there is one copy: the beams are query rows of one attention.

copied.py has the two in transformers' way, for the ladder.
"""

import torch

from whisper_speedup.fused.attention import attend, attend_transposed
from whisper_speedup.fused.copied import CopiedCross, CopiedPast
from whisper_speedup.fused.phantom import with_phantom_keys, with_phantom_values
from whisper_speedup.fused.switches import Off
from whisper_speedup.fused.weights import DecoderWeights


class Cache:
    """What a decode of one utterance keeps: `past`, self-attention's states, and `cross`, cross-attention's.

    `dtype`: what the states are kept in, the weights' own by default. `phantom_block` is phantom.py's switch, None for
    what is right; `off` names parts left out for the ladder.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        beams: int,
        max_positions: int,
        phantom_block: int | None = None,
        off: Off = frozenset(),
        dtype: torch.dtype | None = None,
    ) -> None:
        self.past: AncestryPast | CopiedPast
        self.cross: SharedCross | CopiedCross
        if "ancestry" in off:
            self.past = CopiedPast(len(weights.layers), beams)
        else:
            self.past = AncestryPast(weights, beams, max_positions, dtype or weights.embedding.dtype)
        if "shared_cross_attention" in off:
            self.cross = CopiedCross(beams)
        else:
            self.cross = SharedCross(phantom_block)

    def start(self, weights: DecoderWeights, encoder_states: torch.Tensor) -> None:
        """Begin an utterance with encoder states (source_positions, d)."""
        self.past.start()
        self.cross.start(weights, encoder_states)

    def reorder(self, parents: torch.Tensor) -> None:
        """Beam b continues from beam parents[b] (beams,)."""
        self.past.reorder(parents)
        self.cross.reorder(parents)


class AncestryPast:
    """Static buffers, made once and reused for every utterance.

    `keys`, `values`: per layer (1, heads, max_positions * beams, head_dim), filled slot by slot. `ancestry`: (beams,
    max_positions), int64, or the device search's own table.
    """

    def __init__(self, weights: DecoderWeights, beams: int, max_positions: int, dtype: torch.dtype) -> None:
        device = weights.embedding.device
        shape = (len(weights.layers), 2, 1, weights.heads, max_positions * beams, weights.head_dim)
        states = torch.zeros(shape, device=device, dtype=dtype)
        self.keys = [layer[0] for layer in states]
        self.values = [layer[1] for layer in states]
        self.beams = beams
        self.rows = torch.arange(beams, device=device)
        self.ancestry = torch.zeros(beams, max_positions, dtype=torch.int64, device=device)

    def start(self) -> None:
        """Begin an utterance: the prompt is row 0 of every position, for every beam."""
        self.ancestry.zero_()

    def write_prompt(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put (length, heads, head_dim) of the prompt into row 0 of positions 0 to length - 1."""
        slots = slice(0, key.shape[0] * self.beams, self.beams)
        self.keys[layer][0, :, slots].copy_(key.transpose(0, 1))
        self.values[layer][0, :, slots].copy_(value.transpose(0, 1))

    def reorder(self, parents: torch.Tensor) -> None:
        """Beam b continues from beam parents[b] (beams,): the table moves, the states do not."""
        self.ancestry.copy_(self.ancestry[parents])

    def begin_step(self, position: int) -> None:
        """Ready for every layer's `attend` at `position`: `mask` (beams, (position + 1) * beams) is 0 at each beam's
        own slots and -inf elsewhere. Marks `position` as written by each beam itself.
        """
        self.ancestry[:, position] = self.rows
        own = self.ancestry[:, : position + 1, None] == self.rows
        mask = torch.zeros(own.shape, device=own.device, dtype=self.keys[0].dtype)
        self.mask = mask.masked_fill_(~own, float("-inf")).view(self.beams, -1)
        self.begin, self.end = position * self.beams, (position + 1) * self.beams

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Write key and value (beams, heads, head_dim) of this step's position, and attend: (beams, d)."""
        keys, values = self.keys[layer], self.values[layer]
        keys[0, :, self.begin : self.end].copy_(key.transpose(0, 1))
        values[0, :, self.begin : self.end].copy_(value.transpose(0, 1))
        return attend(query, keys[:, :, : self.end], values[:, :, : self.end], mask=self.mask)


class SharedCross:
    """`keys`: per layer (heads, head_dim, source_positions); `values`: (heads, source_positions, head_dim).

    `in_place`: a later utterance is written over the first, for graphs that read where it stood.
    """

    def __init__(self, phantom_block: int | None = None) -> None:
        self.phantom_block = phantom_block
        self.in_place = False
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def start(self, weights: DecoderWeights, encoder_states: torch.Tensor) -> None:
        """Project encoder states (source_positions, d) to every layer's cross-attention keys and values at once."""
        heads, head_dim = weights.heads, weights.head_dim
        # Keys come out transposed, as a product with few query rows wants them; values as a view. Nothing is copied.
        product = weights.cross_keys @ encoder_states.T
        keys = list(product.view(len(weights.layers), heads, head_dim, -1))
        values = [value(encoder_states).view(-1, heads, head_dim).transpose(0, 1) for value in weights.cross_values]
        if self.phantom_block is not None:
            keys = [with_phantom_keys(layer, self.phantom_block) for layer in keys]
            values = [with_phantom_values(layer, self.phantom_block) for layer in values]
        if self.in_place and self.keys:
            for there, new in zip(self.keys + self.values, keys + values, strict=True):
                there.copy_(new)
        else:
            self.keys, self.values = keys, values

    def reorder(self, parents: torch.Tensor) -> None:
        """Nothing: every beam reads the same."""

    def attend_prompt(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Queries of one sequence's tokens (length, heads, head_dim); returns (length, d)."""
        return attend_transposed(query, self.keys[layer], self.values[layer])

    def attend(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Queries (beams, heads, head_dim); returns (beams, d)."""
        return attend_transposed(query, self.keys[layer], self.values[layer])
