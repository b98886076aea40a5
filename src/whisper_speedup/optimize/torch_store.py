"""A decode's keys and values in plain torch, and the decoder over them: any number of utterances, rows and tokens.

Position t of row b of an utterance is written once, at slot t * beams + b, and stays; the ancestry (utterances, beams,
positions) says in whose slot a row's position stands, and masks the others out. Cross-attention keys and values are
made once an utterance; its beams are query rows over them.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import embedding, scaled_dot_product_attention

from whisper_speedup.fused.decoder import run_layers
from whisper_speedup.fused.weights import LayerStack
from whisper_speedup.optimize.store import States, same_within_utterances

ROOM = 64  # positions made at first; doubled when they are full, so that a short decode takes little memory


class TorchStore:
    """See Store. `cross_keys`: a layer's (utterances * heads, head_dim, n); `cross_values`: (..., n, head_dim)."""

    def __init__(self, owner: object, weights: LayerStack, encoder_states: torch.Tensor, beams: int) -> None:
        """Start from encoder states (rows, source_positions, d), equal for the `beams` rows of an utterance."""
        self.owner, self.weights = owner, weights
        self.rows, self.source_positions, _ = encoder_states.shape
        self.beams = beams
        self.utterances = self.rows // self.beams
        self.layers = len(weights.layers)
        self.length = 0
        device, dtype = weights.embedding.device, weights.embedding.dtype
        self.slot = torch.arange(self.beams, device=device)
        self.cross_keys: list[torch.Tensor] = []
        self.cross_values: list[torch.Tensor] = []
        self._start(encoder_states[:: self.beams].to(dtype))
        # A cache may be made inside inference_mode and go on outside it.
        with torch.inference_mode(False):
            positions = weights.positions.shape[0]
            self.ancestry = torch.zeros(self.utterances, self.beams, positions, dtype=torch.int64, device=device)
            self.states = torch.zeros(self.layers, 2, 0, device=device, dtype=dtype)
            self.capacity = 0

    def _start(self, states: torch.Tensor) -> None:
        heads, width = self.weights.heads, self.weights.width
        columns = states.transpose(1, 2)
        for value, key_weight in zip(self.weights.cross_values, self.weights.cross_keys.split(width), strict=True):
            # Keys come out transposed, as a product with few query rows wants them.
            self.cross_keys.append(torch.matmul(key_weight, columns).view(self.utterances * heads, width // heads, -1))
            values = value(states.flatten(0, 1)).view(self.utterances, -1, heads, width // heads)
            self.cross_values.append(values.transpose(1, 2).flatten(0, 1))

    def extends(self, count: int) -> bool:
        """Any number of tokens."""
        return True

    def extend(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Store. A prompt that an utterance's rows share runs once an utterance."""
        shared = self.length == 0 and self.beams > 1 and same_within_utterances(tokens, self.beams)
        rows = tokens[:: self.beams] if shared else tokens
        weights, start, count = self.weights, self.length, rows.shape[1]
        self._reserve(start + count)
        self.ancestry[:, :, start : start + count] = 0 if shared else self.slot[:, None]
        mask = None if rows.shape[0] == self.utterances and start == 0 else self._visible(start, count)
        states = (embedding(rows, weights.embedding) + weights.positions[start : start + count]).flatten(0, 1)

        def self_attend(index: int, *qkv: torch.Tensor) -> torch.Tensor:
            return self._self_attend(index, qkv, start, count, mask)

        states = run_layers(weights, states, self_attend, self._cross_attend)
        self.length = start + count
        states = states.unflatten(0, (-1, count))
        return states.repeat_interleave(self.beams, 0) if shared else states

    def reorder(self, parents: torch.Tensor) -> None:
        """See Store."""
        if self.beams > 1:
            self.ancestry = self.ancestry.flatten(0, 1)[parents].view_as(self.ancestry)

    def crop(self, count: int) -> None:
        """See Store."""
        self.length -= count

    def self_states(self) -> Iterator[States]:
        """See Store."""
        utterance = torch.arange(self.utterances, device=self.slot.device)[:, None, None]
        time = torch.arange(self.length, device=self.slot.device)
        ancestry = self.ancestry[:, :, : self.length]
        for layer in self.states:
            key, value = (
                self._slots(half).permute(0, 2, 3, 1, 4)[utterance, time, ancestry].transpose(2, 3).flatten(0, 1)
                for half in layer
            )
            yield key, value

    def cross_states(self) -> Iterator[States]:
        """See Store."""
        for key, value in zip(self.cross_keys, self.cross_values, strict=True):
            halves = (half.unflatten(0, (self.utterances, -1)) for half in (key.transpose(1, 2), value))
            key, value = (half.repeat_interleave(self.beams, 0) for half in halves)
            yield key, value

    def _slots(self, half: torch.Tensor) -> torch.Tensor:
        """One layer's keys or values so far: (utterances, heads, length, beams, head_dim)."""
        return half[:, :, : self.length * self.beams].unflatten(2, (self.length, self.beams))

    def _reserve(self, positions: int) -> None:
        """Make room: states (layers, 2, utterances, heads, capacity * beams, head_dim). Unwritten slots are masked,
        but zero, for what is not a number stays so when it is multiplied with nothing."""
        if positions <= self.capacity:
            return
        weights, old, filled = self.weights, self.states, self.length * self.beams
        self.capacity = min(max(ROOM, 2 * self.capacity, positions), weights.positions.shape[0])
        shape = (self.layers, 2, self.utterances, weights.heads, self.capacity * self.beams, weights.head_dim)
        with torch.inference_mode(False):
            self.states = torch.zeros(shape, device=old.device, dtype=old.dtype)
        if filled:
            self.states[..., :filled, :] = old[..., :filled, :]

    def _visible(self, start: int, count: int) -> torch.Tensor | None:
        """Additive mask (utterances, 1, beams * count, (start + count) * beams): 0 at a row's own slots up to its own
        position, -inf elsewhere; None where all is visible."""
        if self.beams == 1 and count == 1:
            return None
        device, end = self.slot.device, start + count
        own = (self.ancestry[:, :, :end, None] == self.slot)[:, :, None]
        past = torch.arange(end, device=device) <= torch.arange(start, end, device=device)[:, None]
        allowed = own & past[:, :, None]
        mask = torch.zeros(allowed.shape, device=device, dtype=self.states.dtype)
        return mask.masked_fill_(~allowed, float("-inf")).view(self.utterances, 1, self.beams * count, -1)

    def _self_attend(
        self, index: int, qkv: Sequence[torch.Tensor], start: int, count: int, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Self-attention of query, key and value, each (rows * count, heads, head_dim), to (rows * count, d); writes
        keys and values."""
        shape = (self.utterances, -1, count, *qkv[0].shape[1:])
        # each (utterances, heads, rows of an utterance, count, head_dim)
        query, key, value = (one.view(shape).permute(0, 3, 1, 2, 4) for one in qkv)
        rows, end = query.shape[2], start + count
        for half, new in zip(self.states[index], (key, value), strict=True):
            slots = half[:, :, start * self.beams : end * self.beams].unflatten(2, (count, self.beams))
            slots[:, :, :, :rows].copy_(new.transpose(2, 3))
        query = query.flatten(2, 3)
        if rows == 1 and start == 0:
            keys, values = key.flatten(2, 3), value.flatten(2, 3)
            attended = scaled_dot_product_attention(query, keys, values, is_causal=count > 1)
        else:
            keys, values = (half[:, :, : end * self.beams] for half in self.states[index])
            attended = scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return attended.transpose(1, 2).reshape(qkv[0].shape[0], -1)

    def _cross_attend(self, index: int, query: torch.Tensor) -> torch.Tensor:
        """Cross-attention of queries (rows * count, heads, head_dim); returns (rows * count, d)."""
        rows, heads, head_dim = query.shape
        query = (query * head_dim**-0.5).view(self.utterances, -1, heads, head_dim).transpose(1, 2).flatten(0, 1)
        scores = torch.softmax(torch.bmm(query, self.cross_keys[index]), dim=-1, dtype=torch.float32)
        attended = torch.bmm(scores.to(query.dtype), self.cross_values[index])
        return attended.unflatten(0, (-1, heads)).transpose(1, 2).reshape(rows, -1)
