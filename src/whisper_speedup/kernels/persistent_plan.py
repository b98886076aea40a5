"""How a decoder's layers are spread over the blocks and warps of one launch (persistent_layers.py)."""

from dataclasses import dataclass, replace

import torch

from whisper_speedup.kernels.stream import MOST_PARTS, ROWS

WARPS, HEAD = 8, 64
UNIT = 32 * HEAD * 4  # bytes of 32 keys and their values
PIECE = 3200  # most bytes of weights that a warp gets at once, but for a group that is larger: large-v2's 5 groups
AHEAD = 1  # pieces of all eight warps on their way at once, one more where none is there
WAYS, LINE = 8, 32  # runs of blocks that are counted apart; numbers of 32 bits from one count to the next
PENDING = 16  # pieces in a ring, at most
KEYS = 4  # pieces of a block's keys and values
PATIENCE = 1 << 22  # looks at the barrier before a launch that hangs is given up: seconds


@dataclass(frozen=True)
class Product:
    """A matrix (N, K) cut for the blocks and warps: each block `columns` (the last of them maybe padding), each warp
    `groups` of 32 of K (likewise), in `pieces` of `piece_groups`, the last with what is left."""

    n: int
    k: int
    columns: int
    groups: int

    @property
    def piece_groups(self) -> int:
        """Groups in a piece."""
        return max(1, min(self.groups, PIECE // (64 * self.columns)))

    @property
    def pieces(self) -> int:
        """That the groups come in."""
        return -(-self.groups // self.piece_groups)

    @property
    def group_bytes(self) -> int:
        """Of a warp's group."""
        return 64 * self.columns

    @property
    def block_bytes(self) -> int:
        """Of a block's share."""
        return WARPS * self.groups * self.group_bytes


def cut(n: int, k: int, grid: int) -> Product:
    """How (N, K) is cut for so many blocks; columns come in pairs."""
    return Product(n, k, 2 * -(-(n // 2) // grid), -(-(k // 32) // WARPS))


@dataclass(frozen=True)
class Plan:
    """How a decoder is spread over `grid` blocks.

    `keys`: source positions; `rows`: at most, of a launch; `ring`: bytes of a block's; `units` of 32
    keys that a warp attends to; `head_blocks` blocks that share a head.
    """

    width: int
    ffn: int
    heads: int
    keys: int
    rows: int
    grid: int
    ring: int
    units: int
    head_blocks: int
    half: str

    @property
    def products(self) -> tuple[Product, ...]:
        """A layer's matrices in reading order: qkv, out, query, out, fc1, fc2."""
        width, ffn, grid = self.width, self.ffn, self.grid
        square = cut(width, width, grid)
        return cut(3 * width, width, grid), square, square, square, cut(ffn, width, grid), cut(width, ffn, grid)

    @property
    def layer_bytes(self) -> int:
        """Of one block's weights."""
        return sum(product.block_bytes for product in self.products)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.ring + _fixed_bytes(self.products, self.rows)

    @property
    def all_units(self) -> int:
        """Of a head's keys; the last of them maybe padding."""
        return self.head_blocks * WARPS * self.units

    @property
    def record(self) -> int:
        """Numbers of 16 bits that blocks hand to each other in a layer."""
        partial = 2 * self.heads * self.head_blocks * self.rows * (HEAD + 2)
        return (self.rows * (9 * self.width + self.ffn) + partial + 7) // 8 * 8

    def macros(self) -> dict[str, int]:
        """What the source is compiled with."""
        names = ("width", "ffn", "heads", "rows", "grid", "ring", "units", "head_blocks")
        of_plan = {name.upper(): getattr(self, name) for name in names}
        tuned = {"PIECE": PIECE, "AHEAD": AHEAD, "PENDING": PENDING, "KEYS": KEYS, "WAYS": WAYS, "LINE": LINE}
        return {**of_plan, **tuned, "PATIENCE": PATIENCE}


def make_plan(
    width: int, ffn: int, heads: int, keys: int, rows: int, grid: int, shared_limit: int,
    dtype: torch.dtype = torch.float16,
) -> Plan | None:  # fmt: skip
    """A plan for this decoder on a GPU with `grid` multiprocessors, or None where it does not fit."""
    if width != heads * HEAD or ffn % 32 or heads > grid or grid > MOST_PARTS.value or not 1 <= rows <= ROWS:
        return None
    units_of_head = -(-keys // 32)
    head_blocks = min(grid // heads, -(-units_of_head // WARPS))
    units = -(-units_of_head // (head_blocks * WARPS))
    plan = Plan(width, ffn, heads, keys, rows, grid, 0, units, head_blocks, str(dtype).removeprefix("torch."))
    ring = (shared_limit - plan.shared_bytes) // 128 * 128
    # A lane keeps one column of x. All keys and values of a block are in the ring at once, where a piece may not fit
    # behind the one before; and something should be on its way meanwhile.
    keys_bytes = WARPS * units * UNIT
    most = max(keys_bytes // KEYS, *(WARPS * one.piece_groups * one.group_bytes for one in plan.products))
    if ring < keys_bytes + 2 * most or plan.products[1].columns > 32:
        return None
    return replace(plan, ring=ring)


def _fixed_bytes(products: tuple[Product, ...], rows: int) -> int:
    """Shared memory beside the ring: the scratch and its numbers, barriers, counts, pieces' bytes, an address."""
    columns = -(-max(product.columns for product in products) // 16) * 16
    even = (rows + 1) // 2 * 2
    scratch = WARPS * max(even * (columns + 4), rows * (HEAD + 8))
    pieces = sum(product.pieces for product in products) + KEYS
    return 4 * (scratch + 2 * WARPS * even) + 8 * PENDING + 4 * WARPS + 4 * pieces + 16
