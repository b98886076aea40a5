"""Read CTranslate2's binary model format, checking every length before it is used.

The format, all numbers little-endian: `uint32` binary version; the spec's name; `uint32` revision; `uint32` number of
variables, each a name, `uint8` rank, `uint32` dimensions, `uint8` data type, `uint32` byte count and the bytes; then
`uint32` number of aliases, each a name and the variable it stands for. A name is a `uint16` length, which counts the
final zero byte, and that many bytes. Source: the specification in CTranslate2's documentation, and the files.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from whisper_speedup.errors import UserError

BINARY_VERSION = 6
MAX_RANK = 8
# CTranslate2's data type ids. 5, bfloat16, is left out: numpy has no such type and the bundled models do not use it.
DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"), 1: np.dtype("i1"), 2: np.dtype("<i2"), 3: np.dtype("<i4"), 4: np.dtype("<f2"),
}  # fmt: skip
Array = npt.NDArray[Any]


@dataclass
class _Reader:
    """A position in `data`. Every read checks first that the bytes are there."""

    data: bytes
    source: str
    offset: int = 0

    def fail(self, problem: str) -> UserError:
        return UserError(
            f"{self.source} is not a model file that this reader knows ({problem} at byte {self.offset}): "
            "install the package that ships it again."
        )

    def skip(self, size: int, what: str) -> int:
        """Step over `size` bytes and return where they start."""
        left = len(self.data) - self.offset
        if size > left:
            raise self.fail(f"{what} needs {size} bytes and {left} are left,")
        self.offset += size
        return self.offset - size

    def take(self, size: int, what: str) -> bytes:
        start = self.skip(size, what)
        return self.data[start : start + size]

    def number(self, kind: str, what: str) -> int:
        return int(struct.unpack("<" + kind, self.take(struct.calcsize(kind), what))[0])

    def name(self, what: str) -> str:
        raw = self.take(self.number("H", f"the length of {what}"), what)
        # Printable, for a name stands in the sentences above; a NUL inside is not.
        if not raw.endswith(b"\0") or not raw.isascii() or not raw[:-1].decode("ascii").isprintable():
            raise self.fail(f"{what} is not a name")
        return raw[:-1].decode("ascii")

    def array(self, what: str) -> Array:
        rank = self.number("B", f"the rank of {what}")
        if rank > MAX_RANK:
            raise self.fail(f"{what} has rank {rank}")
        shape = [self.number("I", f"the shape of {what}") for _ in range(rank)]
        kind = self.number("B", f"the data type of {what}")
        if kind not in DTYPES:
            raise self.fail(f"{what} has the unknown data type {kind}")
        size = self.number("I", f"the size of {what}")
        if 0 in shape:
            raise self.fail(f"{what} has the shape {shape}")
        if size != math.prod(shape) * DTYPES[kind].itemsize:
            raise self.fail(f"{what} of shape {shape} and type {DTYPES[kind]} claims {size} bytes")
        start = self.skip(size, what)
        return np.frombuffer(self.data, DTYPES[kind], math.prod(shape), start).reshape(shape)


def parse(data: bytes, spec: str, revision: int, source: str) -> dict[str, Array]:
    """Name to array, aliases included, for a model of this `spec` and `revision`. `source` names the file in errors.

    The arrays are read-only views of `data`, not copies. Raises UserError when the file is truncated, has bytes left
    over, or is anything but a model of this spec.
    """
    reader = _Reader(data, source)
    version = reader.number("I", "the version")
    if version != BINARY_VERSION:
        raise reader.fail(f"the binary version is {version}, not {BINARY_VERSION},")
    found = reader.name("the spec's name")
    if found != spec:
        raise reader.fail(f"the spec is {found!r}, not {spec!r},")
    found_revision = reader.number("I", "the revision")
    if found_revision != revision:
        raise reader.fail(f"the revision of {spec} is {found_revision}, not {revision},")
    variables: dict[str, Array] = {}
    for _ in range(reader.number("I", "the number of variables")):
        name = reader.name("a variable's name")
        if name in variables:
            raise reader.fail(f"{name} appears twice")
        variables[name] = reader.array(name)
    for _ in range(reader.number("I", "the number of aliases")):
        alias = reader.name("an alias")
        target = reader.name(f"the variable of {alias}")
        if alias in variables or target not in variables:
            raise reader.fail(f"{alias} cannot stand for {target}")
        variables[alias] = variables[target]
    if reader.offset != len(data):
        raise reader.fail(f"{len(data) - reader.offset} bytes are left over")
    return variables
