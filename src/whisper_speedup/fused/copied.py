"""Keys and values as transformers keeps them, a copy a beam and moved at every reorder: what the ladder starts from.

transformers (5.17, cache_utils.py and generation/utils.py) repeats the encoder's states for each beam and projects
every copy, appends each step's keys and values to what there was, and on beam reorder gathers all of it with
`index_select`, cross-attention's too, whether or not a beam changed.
"""

import torch

from whisper_speedup.fused.attention import attend_each
from whisper_speedup.fused.weights import DecoderWeights


class CopiedPast:
    """Self-attention's states, per layer (beams, heads, positions so far, head_dim): appended to and gathered."""

    def __init__(self, layers: int, beams: int) -> None:
        self.layers, self.beams = layers, beams
        self.start()

    def start(self) -> None:
        """Begin an utterance."""
        self.keys: list[torch.Tensor] = [torch.empty(0)] * self.layers
        self.values: list[torch.Tensor] = [torch.empty(0)] * self.layers

    def write_prompt(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take (length, heads, head_dim) of the prompt for every beam."""
        self.keys[layer] = key.transpose(0, 1).repeat(self.beams, 1, 1, 1)
        self.values[layer] = value.transpose(0, 1).repeat(self.beams, 1, 1, 1)

    def reorder(self, parents: torch.Tensor) -> None:
        """Beam b continues from beam parents[b] (beams,): all states are gathered."""
        self.keys = [states.index_select(0, parents) for states in self.keys]
        self.values = [states.index_select(0, parents) for states in self.values]

    def begin_step(self, position: int) -> None:
        """Nothing: what was appended is the position."""

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Append key and value (beams, heads, head_dim) of this step's position, and attend: (beams, d)."""
        keys = self.keys[layer] = torch.cat((self.keys[layer], key[:, :, None]), dim=2)
        values = self.values[layer] = torch.cat((self.values[layer], value[:, :, None]), dim=2)
        return attend_each(query, keys, values)


class CopiedCross:
    """Cross-attention's keys and values, per layer (beams, heads, source_positions, head_dim)."""

    def __init__(self, beams: int) -> None:
        self.beams = beams
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def start(self, weights: DecoderWeights, encoder_states: torch.Tensor) -> None:
        """Project encoder states (source_positions, d), repeated for each beam, to every layer's keys and values."""
        shape = (self.beams, -1, weights.heads, weights.head_dim)
        states = encoder_states.repeat(self.beams, 1)
        products = [states @ layer.T for layer in weights.cross_keys.split(weights.width)]
        self.keys = [product.view(shape).transpose(1, 2) for product in products]
        self.values = [value(states).view(shape).transpose(1, 2) for value in weights.cross_values]

    def reorder(self, parents: torch.Tensor) -> None:
        """Gather all of it by parents (beams,), though the beams' copies are the same."""
        self.keys = [states.index_select(0, parents) for states in self.keys]
        self.values = [states.index_select(0, parents) for states in self.values]

    def attend_prompt(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Queries of one sequence's tokens (length, heads, head_dim); returns (length, d)."""
        count = query.shape[0]
        keys, values = (states[:1].expand(count, -1, -1, -1) for states in (self.keys[layer], self.values[layer]))
        return attend_each(query, keys, values)

    def attend(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Queries (beams, heads, head_dim), each over its beam's copy; returns (beams, d)."""
        return attend_each(query, self.keys[layer], self.values[layer])
