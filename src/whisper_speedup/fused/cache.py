"""Keys and values of one utterance, and the ancestry table that says which of them a beam may see.

Beam reorder moves no keys or values. Position t of row r is written once, at slot t * beams + r, and stays. A table
(beams, positions) says which row holds each beam's position t; choosing new beams permutes that small table, and
self-attention masks out the slots that are not a beam's own. Cross-attention keys and values are the same for every
beam and never change within an utterance, so there is one copy: the beams are query rows of one attention.
"""

import torch

from whisper_speedup.fused.phantom import with_phantom_keys, with_phantom_values
from whisper_speedup.fused.weights import DecoderWeights


class Cache:
    """Static buffers, made once and reused for every utterance.

    `keys`, `values`: per layer (1, heads, max_positions * beams, head_dim), filled slot by slot.
    `cross_keys`: per layer (heads, head_dim, source_positions); `cross_values`: (heads, source_positions, head_dim).
    `ancestry`: (beams, max_positions), int64. `phantom_block` is phantom.py's switch, None for what is right.
    """

    def __init__(
        self, weights: DecoderWeights, beams: int, max_positions: int, phantom_block: int | None = None
    ) -> None:
        embedding = weights.embedding
        layers, heads, head_dim = len(weights.layers), weights.heads, weights.head_dim
        shape = (layers, 2, 1, heads, max_positions * beams, head_dim)
        states = torch.zeros(shape, device=embedding.device, dtype=embedding.dtype)
        self.keys = [layer[0] for layer in states]
        self.values = [layer[1] for layer in states]
        self.cross_keys: list[torch.Tensor] = []
        self.cross_values: list[torch.Tensor] = []
        self.beams = beams
        self.phantom_block = phantom_block
        self.rows = torch.arange(beams, device=embedding.device)
        self.ancestry = torch.zeros(beams, max_positions, dtype=torch.int64, device=embedding.device)

    def start(self, weights: DecoderWeights, encoder_states: torch.Tensor) -> None:
        """Project encoder states (source_positions, d) to every layer's cross-attention keys and values at once."""
        heads, head_dim = weights.heads, weights.head_dim
        # Keys come out transposed, as a product with few query rows wants them; values as a view. Nothing is copied.
        keys = weights.cross_keys @ encoder_states.T
        self.cross_keys = list(keys.view(len(weights.layers), heads, head_dim, -1))
        self.cross_values = [
            layer.cross_value(encoder_states).view(-1, heads, head_dim).transpose(0, 1) for layer in weights.layers
        ]
        if self.phantom_block is not None:
            self.cross_keys = [with_phantom_keys(layer, self.phantom_block) for layer in self.cross_keys]
            self.cross_values = [with_phantom_values(layer, self.phantom_block) for layer in self.cross_values]
        self.ancestry.zero_()  # the prompt is row 0 of every position, for every beam

    def write(self, layer: int, position: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put (rows, heads, head_dim) of one position into its slots."""
        slots = slice(position * self.beams, position * self.beams + key.shape[0])
        self.keys[layer][0, :, slots].copy_(key.transpose(0, 1))
        self.values[layer][0, :, slots].copy_(value.transpose(0, 1))

    def write_prompt(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put (length, heads, head_dim) of the prompt into row 0 of positions 0 to length - 1."""
        slots = slice(0, key.shape[0] * self.beams, self.beams)
        self.keys[layer][0, :, slots].copy_(key.transpose(0, 1))
        self.values[layer][0, :, slots].copy_(value.transpose(0, 1))

    def reorder(self, parents: torch.Tensor) -> None:
        """Beam b continues from beam parents[b] (beams,): the table moves, the states do not."""
        self.ancestry.copy_(self.ancestry[parents])

    def visible(self, position: int) -> torch.Tensor:
        """Additive mask (beams, (position + 1) * beams): 0 at each beam's own slots, -inf elsewhere.

        Marks `position` as written by each beam itself.
        """
        self.ancestry[:, position] = self.rows
        own = self.ancestry[:, : position + 1, None] == self.rows
        mask = torch.zeros(own.shape, device=own.device, dtype=self.keys[0].dtype)
        return mask.masked_fill_(~own, float("-inf")).view(self.beams, -1)
