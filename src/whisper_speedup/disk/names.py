"""Which place each name has among very many, without keeping the names: 16 bytes each."""

from array import array
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np


class Names:
    """Names with their places, from 0. Each is kept as 64 bits of its BLAKE2b hash.

    Two of a million names have the same 64 bits once in 37 million sets.
    """

    def __init__(self, names: Iterable[str]) -> None:
        digests = np.frombuffer(array("Q", (_digest(name) for name in names)), dtype=np.uint64)
        self.order = np.argsort(digests, kind="stable")
        self.digests = digests[self.order]

    def __len__(self) -> int:
        return len(self.digests)

    def find(self, name: str) -> int | None:
        """Its place; None for a stranger, and the first place where there are several."""
        digest = np.uint64(_digest(name))
        found = int(np.searchsorted(self.digests, digest))
        known = found < len(self.digests) and self.digests[found] == digest
        return int(self.order[found]) if known else None

    def twice(self) -> int | None:
        """The place of a name that there is more than once, the first such; None where each is there once."""
        same = np.flatnonzero(self.digests[1:] == self.digests[:-1])
        return int(self.order[same].min()) if len(same) else None


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
