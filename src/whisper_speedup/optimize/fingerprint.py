"""What a list of weights holds, for finding out later whether it still holds that.

Two looks at it. A sample: at least one value of each row and of each column of a matrix, and all of a vector; an
optimizer's step, a merged adapter, an average of checkpoints or another checkpoint changes some of those. And all of
it, for what changes a few values alone. On a GPU both are hashes (kernels/content_hash.py), compared there, so that the
host need not wait; on a CPU the sample is compared as it is, and all of it by xxHash.
"""

import math

import torch

from whisper_speedup.optimize.served import runs_kernels

# Weights so small are read as a whole each time: bytes.
SMALL = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32}


class Fingerprint:
    """The content of `weights`, dense tensors of one type on one CPU or GPU, as it is now."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        device = weights[0].device
        self.small = sum(weight.nbytes for weight in weights) <= SMALL[device.type]
        words = [words_of(weight, weight.itemsize) for weight in weights]
        strides = [sample_stride(weight.shape) for weight in weights]
        on_device = device.type == "cuda" and runs_kernels(device)
        self.content = OnDevice(words, strides) if on_device else OnHost(words, strides)

    def compare(self, everything: bool) -> None:
        """Compare the content now with what it was: `everything`, or a sample unless the weights are few. `differs`
        has the result. The weights must lie where they lay."""
        self.content.compare(everything or self.small)

    def differs(self) -> bool:
        """What the last `compare` found, once; else False. Waits for the GPU."""
        return self.content.differs()


class OnHost:
    """Content that the host compares at once: on a CPU, and on a GPU that runs no kernels, for which it waits."""

    def __init__(self, words: list[torch.Tensor], strides: list[int]) -> None:
        self.words, self.found = words, False
        self.sampled = [one[::stride] for one, stride in zip(words, strides, strict=True)]
        self.sample, self.hashes = torch.cat(self.sampled), self._hashes()

    def compare(self, everything: bool) -> None:
        """See Fingerprint."""
        self.found = not torch.equal(torch.cat(self.sampled), self.sample)
        if everything and not self.found:
            self.found = self._hashes() != self.hashes

    def differs(self) -> bool:
        """See Fingerprint."""
        found, self.found = self.found, False
        return found

    def _hashes(self) -> list[int]:
        if self.words[0].device.type == "cuda":  # sums, which see each change of one value
            return torch.stack([one.sum(dtype=torch.int64) for one in self.words]).tolist()
        import xxhash

        return [xxhash.xxh3_64_intdigest(one.numpy().data) for one in self.words]


class OnDevice:
    """Content that the GPU hashes and compares."""

    def __init__(self, words: list[torch.Tensor], strides: list[int]) -> None:
        from whisper_speedup.kernels.content_hash import chunks_of, content_hash

        self.hash = content_hash
        wide = all(one.nbytes % 4 == 0 and one.data_ptr() % 4 == 0 for one in words)
        dense = [words_of(one, 4) for one in words] if wide else words
        self.chunks = {False: chunks_of(words, strides), True: chunks_of(dense, [1] * len(dense))}
        self.hashes = {everything: content_hash(chunks) for everything, chunks in self.chunks.items()}
        torch.cuda.current_stream(words[0].device).synchronize()  # a later look may come on another stream
        self.found: torch.Tensor | None = None

    def compare(self, everything: bool) -> None:
        """See Fingerprint."""
        self.found = (self.hash(self.chunks[everything]) != self.hashes[everything]).any()

    def differs(self) -> bool:
        """See Fingerprint."""
        found, self.found = self.found, None
        return found is not None and bool(found)


def words_of(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """The memory of a dense tensor, in its own order, as integers of `size` bytes: (bytes / size,)."""
    return tensor.detach().as_strided((tensor.numel(),), (1,)).view(WORDS[size])


def sample_stride(shape: torch.Size) -> int:
    """n such that each n-th value of a tensor touches every row (shape[0] of them) and every column, and few more."""
    if len(shape) < 2:
        return 1
    rows, columns = shape[0], math.prod(shape[1:])
    # At most `columns`, so that no row is skipped; at most `rows`, for enough values; without a common divisor, so that
    # the columns take turns.
    return next(n for n in range(max(min(rows, columns), 1), 0, -1) if math.gcd(n, columns) == 1)
