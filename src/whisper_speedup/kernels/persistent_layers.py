"""All decoder layers of a step in one launch: blocks that stay, weights that never stop coming.

    for each layer: x <- x + attend(norm(x));  x <- x + cross_attend(norm(x));  x <- x + W2 gelu(W1 norm(x))

The separate kernels (norm_qkv.py and its neighbours) start and drain eight times a layer, and memory idles meanwhile.
Here one block a multiprocessor lives through the whole step. The layers' parts are separated by a barrier of all blocks,
and each warp's share of all weights is one stream in memory, in the order in which the warp reads it, that the bulk copy
engine brings through a ring in shared memory: it runs ahead across the barriers, up to a layer's third. Cross-attention's
keys and values come the same way. Triton has no words for either the barrier or the copies, hence CUDA C++
(persistent_layers.cu), compiled by NVRTC, which comes with PyTorch; on GPUs older than Hopper, and for heads that are not
64 wide, the Triton kernels do the same work.

Bytes of large-v2, 5 beams: 1.47 GB of weights and 0.25 GB of cross-attention keys and values, 0.57 ms at 3.0 TB/s.

Layouts. A product (N, K) is cut by columns into blocks and by groups of 32 of K into warps. A warp's share lies as
(group, column, 32), so that a lane's 16 bytes are 8 consecutive weights and a warp's reads meet no bank twice. The unit of
cross-attention is 32 keys of a head, (2, 32 keys, 32) and their values (64, 32 keys) with the keys in the order in which
the tensor cores hold the weights: 8 i + 2 t + e at 8 t + 2 i + e.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from whisper_speedup.kernels.stream import MOST_PARTS, ROWS, Stream

FOLDER = Path(__file__).parent
WARPS, HEAD = 8, 64
UNIT = 32 * HEAD * 4  # bytes of 32 keys and their values
PIECE = 3328  # most bytes of weights that a warp asks for at once, but for a group that is larger
AHEAD = 2  # of them on their way at once
PATIENCE = 1 << 22  # looks at the barrier before a launch that hangs is given up: seconds


@dataclass(frozen=True)
class Product:
    """A matrix (N, K) cut for the blocks and warps: each block `columns` (the last of them maybe padding), each warp
    `groups` of 32 of K (likewise), in `pieces` of `piece_groups`."""

    n: int
    k: int
    columns: int
    groups: int

    @property
    def piece_groups(self) -> int:
        return max(1, min(self.groups, PIECE // (64 * self.columns)))

    @property
    def pieces(self) -> int:
        return -(-self.groups // self.piece_groups)

    @property
    def piece_bytes(self) -> int:
        return 64 * self.columns * self.piece_groups


def cut(n: int, k: int, grid: int) -> Product:
    """How (N, K) is cut for so many blocks; columns come in pairs."""
    return Product(n, k, 2 * -(-(n // 2) // grid), -(-(k // 32) // WARPS))


@dataclass(frozen=True)
class Plan:
    """How a decoder is spread over `grid` blocks. `keys`: source positions; `rows`: at most, of a launch; `slots`: pieces
    that a warp's ring holds; `units` of 32 keys that a warp attends to; `head_blocks` blocks that share a head."""

    width: int
    ffn: int
    heads: int
    keys: int
    rows: int
    grid: int
    slots: int
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
        """Of one warp's stream."""
        return sum(product.pieces * product.piece_bytes for product in self.products)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return WARPS * self.slots * (_slot(self.products) + 8) + _fixed_bytes(self.products, self.rows, self.units)

    @property
    def record(self) -> int:
        """Numbers of 16 bits that blocks hand to each other in a layer."""
        partial = 2 * self.heads * self.head_blocks * self.rows * (HEAD + 2)
        return (self.rows * (9 * self.width + self.ffn) + partial + 7) // 8 * 8

    def macros(self) -> dict[str, int]:
        """What the source is compiled with."""
        names = ("width", "ffn", "heads", "rows", "grid", "slots", "units", "head_blocks")
        return {**{name.upper(): getattr(self, name) for name in names}, "AHEAD": AHEAD, "PATIENCE": PATIENCE}


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
    slots = (shared_limit - plan.shared_bytes) // (WARPS * (_slot(plan.products) + 8))
    # A lane keeps one column of x; with fewer slots nothing runs ahead.
    if slots < 2 or plan.products[1].columns > 32:
        return None
    return replace(plan, slots=slots)


def _slot(products: tuple[Product, ...]) -> int:
    return -(-max(product.piece_bytes for product in products) // 128) * 128


def _fixed_bytes(products: tuple[Product, ...], rows: int, units: int) -> int:
    """Shared memory beside the ring: keys and values, the scratch and its numbers, barriers, counts."""
    columns = -(-max(product.columns for product in products) // 16) * 16
    even = (rows + 1) // 2 * 2
    scratch = WARPS * even * max(columns + 4, HEAD + 8)
    return WARPS * units * UNIT + 4 * (scratch + 2 * WARPS * even) + 8 * 4 * WARPS + 4 * 2 * WARPS


class PackedLayers:
    """Every layer's matrices as the warps' streams, and their vectors.

    `packed` (bytes / 2,) in the weights' type; `vectors` fp32: the last norm's gamma, then for each layer what
    persistent_layers.cu lists.
    """

    def __init__(self, plan: Plan, layers: int, device: torch.device, dtype: torch.dtype) -> None:
        self.plan, self.layers = plan, layers
        self.packed = torch.zeros(plan.grid * WARPS * layers * plan.layer_bytes // 2, device=device, dtype=dtype)
        self.vectors = torch.zeros(plan.width + layers * (11 * plan.width + 2 * plan.ffn), device=device)
        self.places: dict[int, torch.Tensor] = {}
        self.filled = 0

    def put(self, layer: int, product: int, matrix: torch.Tensor) -> None:
        """Place a product's matrix (N, K) into the streams."""
        if product not in self.places:
            self.places[product] = self._place(product).to(self.packed.device)
        values = matrix.detach().to(self.packed.device, self.packed.dtype).reshape(-1, 8)
        self.packed.view(-1, 8)[self.places[product] + layer * (self.plan.layer_bytes // 16)] = values

    def _place(self, index: int) -> torch.Tensor:
        """Where in `packed` each 16 bytes of layer 0's product (N, K) go."""
        plan, product = self.plan, self.plan.products[index]
        before = sum(one.pieces * one.piece_bytes for one in plan.products[:index])
        # The same arithmetic as the kernel's: block b's columns begin at 2 (N / 2 b / blocks).
        cuts = 2 * (torch.arange(plan.grid + 1) * (product.n // 2) // plan.grid)
        row, group = torch.arange(product.n), torch.arange(product.k // 32)
        block = torch.searchsorted(cuts, row, right=True) - 1
        warp, own = group // product.groups, group % product.groups
        stream = (block[:, None] * WARPS + warp[None, :]) * (self.layers * plan.layer_bytes) + before
        piece, inside = own // product.piece_groups, own % product.piece_groups
        at = stream + (piece * product.piece_bytes + inside * product.columns * 64)[None, :]
        at = at + ((row - cuts[block]) * 64)[:, None]
        return (at[..., None] // 16 + torch.arange(4)).flatten()

    def add_vectors(self, *vectors: torch.Tensor) -> None:
        """Append vectors in the kernel's order."""
        for vector in vectors:
            count = vector.numel()
            self.vectors[self.filled : self.filled + count].copy_(vector)
            self.filled += count

    def done(self) -> None:
        """Forget what only packing needed."""
        assert self.filled == self.vectors.numel()
        self.places.clear()


def pack_cross(plan: Plan, keys: torch.Tensor, values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """keys and values (n, d) of one layer into `out` (heads, units, 2, 2048), the kernel's units; in plain torch."""
    n, heads = keys.shape[0], plan.heads
    units = plan.head_blocks * WARPS * plan.units

    def padded(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, 0, 0, units * 32 - n)).view(units, 32, heads, HEAD)

    # keys: unit, key, head, half, 32 -> head, unit, half, key, 32
    out[:, :, 0] = padded(keys).view(units, 32, heads, 2, 32).permute(2, 0, 3, 1, 4).reshape(heads, units, 2048)
    # values: unit, i, t, e, head, dim -> head, unit, dim, t, i, e
    out[:, :, 1] = padded(values).view(units, 4, 4, 2, heads, HEAD).permute(4, 0, 5, 2, 1, 3).reshape(heads, units, 2048)
    return out


class PersistentLayers:
    """Buffers and the launch. `run` writes keys and values of the new tokens and leaves the stream for the last norm."""

    def __init__(self, packed: PackedLayers, eps: float, launch: Any) -> None:
        plan, device = packed.plan, packed.packed.device
        self.packed, self.plan, self.eps, self.launch = packed, plan, eps, launch
        self.exchange = torch.full((2 * packed.layers * plan.record,), -1, device=device, dtype=torch.int16)  # empty
        self.counters = torch.zeros(3, device=device, dtype=torch.int32)

    def run(
        self,
        tokens: torch.Tensor,
        start: torch.Tensor,
        embedding: torch.Tensor,
        positions: torch.Tensor,
        ancestry: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cross: torch.Tensor,
        stream: Stream,
        prompt: bool,
    ) -> Stream:
        """tokens (rows <= 8,) int32; keys and values (layers, positions, beams, d); cross (layers, heads, units, 2, 2048)."""
        rows = tokens.shape[0]
        layers, most, beams, _ = keys.shape
        assert rows <= self.plan.rows and layers == self.packed.layers and ancestry.shape[1] == most
        self.launch(
            self.packed.packed, self.packed.vectors, embedding, positions, tokens, start, ancestry,
            keys, values, cross, self.exchange, stream.residual, stream.scaled, stream.sums, self.counters, layers, rows,
            beams, most, self.plan.keys, int(prompt), self.eps,
        )  # fmt: skip
        stream.wrote(self.plan.grid)
        return stream


def source(plan: Plan, machine: str | None = None) -> str:
    """The kernel's whole source; `machine` stands in for hopper.cuh."""
    lines = [f"#define {name} {value}" for name, value in plan.macros().items()]
    if plan.half == "bfloat16":
        lines.append("#define BF16")
    machine = machine if machine is not None else (FOLDER / "hopper.cuh").read_text(encoding="utf-8")
    return "\n".join([*lines, machine, (FOLDER / "persistent_layers.cu").read_text(encoding="utf-8")])
