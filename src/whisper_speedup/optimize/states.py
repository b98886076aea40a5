"""The cache that `generate` holds while our keys and values stand behind it.

transformers hands a decoder an empty EncoderDecoderCache and keeps asking it for a few things: its length, a new order
of beams, to forget the last tokens. Those go to the store; beam reorder permutes the ancestry and copies no state
(transformers issue 28357: its own caches copy the cross-attention states at every step, though beams share them).

Anything else that reads or writes a cache goes through its `layers`, and asking for them turns the cache into an
ordinary one with the same content. So transformers' own decoder can go on from a cache of ours at any time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from whisper_speedup.optimize.store import States, Store, stays_within_utterances


class StoredStates(DynamicCache, ABC):
    """Self- or cross-attention states of a store, until something asks for its `layers`; then an ordinary cache."""

    def __init__(self, store: Store) -> None:
        self.store: Store | None = None
        super().__init__()
        self.store = store

    @property
    def layers(self) -> list[DynamicLayer]:
        """Ordinary layers; the store is left for good."""
        if self.store is not None:
            self._layers = [_layer(*states) for states in self._read(self.store)]
            self.store = None
        return self._layers

    @layers.setter
    def layers(self, layers: list[DynamicLayer]) -> None:
        self._layers = layers

    @abstractmethod
    def _read(self, store: Store) -> Iterator[States]:
        """Keys and values of each layer."""

    @abstractmethod
    def _length(self, store: Store) -> int:
        """Positions held."""

    def __len__(self) -> int:
        return self.store.layers if self.store is not None else super().__len__()

    def __reduce__(self) -> Any:
        """A copy or a pickle is an ordinary cache."""
        states = self._read(self.store) if self.store is not None else ((one.keys, one.values) for one in self._layers)
        return DynamicCache, (tuple(states),)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions held."""
        if self.store is None:
            return super().get_seq_length(layer_idx)
        return self._length(self.store) if layer_idx < self.store.layers else 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """No limit of its own."""
        return -1

    def activate_past_recording(self) -> None:
        """Nothing to do: `crop` always works."""

    @property
    def is_compileable(self) -> bool:
        """No."""
        return False

    @property
    def is_croppable(self) -> bool:
        """Yes."""
        return True

    @property
    def is_sliding(self) -> list[bool]:
        """No layer is."""
        return [False] * len(self)


class SelfStates(StoredStates):
    """Self-attention keys and values."""

    def _read(self, store: Store) -> Iterator[States]:
        return store.self_states()

    def _length(self, store: Store) -> int:
        return store.length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row r continues from row beam_idx[r]: the ancestry moves, the states do not."""
        if self.store is not None and stays_within_utterances(self.store, beam_idx):
            self.store.reorder(beam_idx)
        else:
            super().reorder_cache(beam_idx)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last -tokens_to_remove positions; positive, as transformers once had it, says how many stay."""
        if self.store is None:
            super().crop(tokens_to_remove)
            return
        length = self.store.length
        remove = -tokens_to_remove if tokens_to_remove <= 0 else max(length - tokens_to_remove, 0)
        self.store.crop(min(remove, length))


class CrossStates(StoredStates):
    """Cross-attention keys and values: the same for every row of an utterance, so their order never changes."""

    def _read(self, store: Store) -> Iterator[States]:
        return store.cross_states()

    def _length(self, store: Store) -> int:
        return store.source_positions

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Nothing to do while rows continue rows of their own utterance."""
        if self.store is None or not stays_within_utterances(self.store, beam_idx):
            super().reorder_cache(beam_idx)


def adoptable(cache: object) -> bool:
    """Whether a cache is one that `generate` makes by default, and empty: only such a one is filled by us."""
    if not isinstance(cache, EncoderDecoderCache):
        return False
    halves = (cache.self_attention_cache, cache.cross_attention_cache)
    return all(
        type(half) is DynamicCache
        and not half.offloading
        and not any(half.is_sliding)
        and all(half.get_seq_length(index) == 0 for index in range(len(half)))
        for half in halves
    )


def adopt(cache: EncoderDecoderCache, store: Store) -> None:
    """Put the store behind a cache in place, as transformers' decoder fills one in place."""
    cache.self_attention_cache = SelfStates(store)
    cache.cross_attention_cache = CrossStates(store)
    cache.is_updated = dict.fromkeys(range(store.layers), True)


def store_behind(cache: object) -> Store | None:
    """The store behind both halves of a cache, None where there is none."""
    if not isinstance(cache, EncoderDecoderCache):
        return None
    halves = (cache.self_attention_cache, cache.cross_attention_cache)
    stores = [half.store if isinstance(half, StoredStates) else None for half in halves]
    return stores[0] if stores[0] is stores[1] else None


def _layer(keys: torch.Tensor, values: torch.Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(keys, values)
    return layer
