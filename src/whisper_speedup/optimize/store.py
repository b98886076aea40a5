"""What stands behind the caches that `generate` holds: keys and values that stay where they were written."""

from collections.abc import Iterator
from typing import Protocol

import torch

States = tuple[torch.Tensor, torch.Tensor]


class Store(Protocol):
    """Keys and values of one decode. `rows` = utterances * `beams`; row r belongs to utterance r // beams.

    `owner` made it and alone may extend it. `length`: positions written. `source_positions`: encoder positions.
    """

    owner: object
    rows: int
    beams: int
    length: int
    layers: int
    source_positions: int

    def extends(self, count: int) -> bool:
        """Whether `extend` serves so many tokens a row now."""

    def extend(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run tokens (rows, count) from position `length` on; returns (rows, count, d) after the last layer norm."""

    def reorder(self, parents: torch.Tensor) -> None:
        """Row r continues from row parents[r] (rows,), of the same utterance: the ancestry moves, the states do not."""

    def crop(self, count: int) -> None:
        """Forget the last `count` positions."""

    def self_states(self) -> Iterator[States]:
        """Copies of each layer's keys and values as transformers keeps them: (rows, heads, length, head_dim)."""

    def cross_states(self) -> Iterator[States]:
        """Each layer's cross-attention keys and values: (rows, heads, source_positions, head_dim)."""


def stays_within_utterances(store: Store, parents: torch.Tensor) -> bool:
    """Whether each row continues from a row of its own utterance; more than one utterance on a GPU waits for it."""
    if parents.shape != (store.rows,):
        return False
    if store.rows == store.beams:
        return True
    own = torch.arange(store.rows, device=parents.device) // store.beams
    return torch.equal(parents // store.beams, own)


def rows_per_utterance(states: torch.Tensor) -> int:
    """How many rows in a row share one utterance, read from the encoder states (rows, positions, d) themselves.

    `generate` repeats each utterance's states for its beams. Rows share keys and values where their states are equal
    and nowhere else, whatever made them equal. 1 where the runs of equal rows are not all of one length.
    """
    rows = states.shape[0]
    if rows == 1:
        return 1
    new = [True, *(states[1:] != states[:-1]).flatten(1).any(1).tolist()]
    starts = [row for row, differs in enumerate(new) if differs]
    length = rows // len(starts)
    return length if starts == list(range(0, rows, length)) and rows == len(starts) * length else 1


def same_within_utterances(tokens: torch.Tensor, beams: int) -> bool:
    """Whether the rows of each utterance hold the same tokens (rows, count)."""
    grouped = tokens.unflatten(0, (-1, beams))
    return torch.equal(grouped, grouped[:, :1].expand_as(grouped))
