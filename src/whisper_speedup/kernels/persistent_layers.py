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

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whisper_speedup.kernels.stream import MOST_PARTS, Stream

FOLDER = Path(__file__).parent
WARPS, HEAD = 8, 64
SLOT = 2048
AHEAD = 3  # slots of a warp on their way at once
UNIT = 32 * HEAD * 4  # bytes of 32 keys and their values
PATIENCE = 1 << 22  # looks at a barrier before a launch that hangs is given up: seconds


@dataclass(frozen=True)
class Plan:
    """How a decoder is spread over `grid` blocks. `keys`: source positions; `slots` of 1 KiB a warp's ring has."""

    width: int
    ffn: int
    heads: int
    keys: int
    rows: int
    grid: int
    slots: int
    units: int
    head_blocks: int
    batch: int
    half: str

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """(N, K) of a layer's matrices in reading order: qkv, out, query, out, fc1, fc2."""
        width = self.width
        return ((3 * width, width), *(((width, width),) * 3), (self.ffn, width), (width, self.ffn))

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return WARPS * self.slots * (SLOT + 8) + _fixed_bytes(self.width, self.ffn, self.rows, self.units, self.grid)

    def macros(self) -> dict[str, int]:
        """What the source is compiled with."""
        names = ("width", "ffn", "heads", "rows", "grid", "slots", "units", "head_blocks", "batch")
        return {**{name.upper(): getattr(self, name) for name in names}, "SLOT": SLOT, "AHEAD": AHEAD, "PATIENCE": PATIENCE}


def make_plan(
    width: int, ffn: int, heads: int, keys: int, rows: int, grid: int, shared_limit: int, dtype: torch.dtype = torch.float16
) -> Plan | None:
    """A plan for this decoder on a GPU with `grid` multiprocessors, or None where it does not fit."""
    if width != heads * HEAD or ffn % 32 or heads > grid or grid > MOST_PARTS.value:
        return None
    units_of_head = -(-keys // 32)
    head_blocks = min(grid // heads, -(-units_of_head // WARPS))
    units = -(-units_of_head // (head_blocks * WARPS))
    slots = (shared_limit - _fixed_bytes(width, ffn, rows, units, grid)) // (WARPS * (SLOT + 8))
    # A warp reads a batch of groups of its columns at once, from anywhere in a slot on; a lane keeps one column of x.
    batch = min(5, (slots - 1) * SLOT // (64 * _most(max(3 * width, ffn), grid)))
    if batch < 1 or _most(width, grid) > 32:
        return None
    half = str(dtype).removeprefix("torch.")
    return Plan(width, ffn, heads, keys, rows, grid, slots, units, head_blocks, batch, half)


def _most(columns: int, grid: int) -> int:
    """The most columns that a block has."""
    return 2 * -(-columns // 2 // grid)


def _fixed_bytes(width: int, ffn: int, rows: int, units: int, grid: int) -> int:
    """Shared memory beside the ring: keys and values, two scratches and their numbers, barriers, counts."""
    columns = -(-_most(max(3 * width, ffn), grid) // 16) * 16
    even = (rows + 1) // 2 * 2
    scratch = WARPS * even * max(columns + 4, HEAD + 8)
    return WARPS * units * UNIT + 4 * (2 * scratch + 4 * WARPS * even) + 8 * WARPS + 4 * 2 * WARPS


def _cuts(total: int, parts: int) -> torch.Tensor:
    """Where each of `parts` shares of `total` begins, and the end: (parts + 1,) int64."""
    return torch.arange(parts + 1) * total // parts


def _columns(total: int, grid: int) -> torch.Tensor:
    """The same for a product's columns, which come in pairs."""
    return 2 * _cuts(total // 2, grid)


class PackedLayers:
    """Every layer's matrices as the warps' streams, and their vectors.

    `packed` (bytes / 2,) in the weights' type; `bases` (blocks * warps + 1,) int64 bytes; `vectors` fp32: the
    last norm's gamma, then for each layer what persistent_layers.cu lists.
    """

    def __init__(self, plan: Plan, layers: int, device: torch.device, dtype: torch.dtype) -> None:
        self.plan, self.layers = plan, layers
        rows = [_columns(n, plan.grid).diff() for n, _ in plan.products]
        groups = [_cuts(k // 32, WARPS).diff() for _, k in plan.products]
        sizes = [64 * r[:, None] * g[None, :] for r, g in zip(rows, groups, strict=True)]  # (blocks, warps) bytes
        self.offsets = torch.stack([torch.zeros_like(sizes[0]), *sizes]).cumsum(0)
        self.layer_bytes = self.offsets[-1]
        totals = (layers * self.layer_bytes + SLOT - 1) // SLOT * SLOT
        bases = torch.cat([torch.zeros(1, dtype=torch.int64), totals.flatten().cumsum(0)])
        self.bases = bases.to(device)
        self.starts = bases[:-1].view(plan.grid, WARPS)
        self.packed = torch.zeros(int(bases[-1]) // 2, device=device, dtype=dtype)
        self.vectors = torch.zeros(plan.width + layers * (11 * plan.width + 2 * plan.ffn), device=device)
        self.places: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.filled = 0

    def put(self, layer: int, product: int, *matrices: torch.Tensor) -> None:
        """Place a product's matrices (N_i, K), one below the other, into the streams."""
        if product not in self.places:
            self.places[product] = self._place(product)
        first, step = self.places[product]
        _, k = self.plan.products[product]
        begin = 0
        for matrix in matrices:
            rows = matrix.shape[0]
            values = matrix.detach().to(self.packed.device, self.packed.dtype).reshape(rows * k // 8, 8)
            at = slice(begin * k // 8, (begin + rows) * k // 8)
            self.packed.view(-1, 8)[first[at] + layer * step[at]] = values
            begin += rows

    def _place(self, product: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For each 16 bytes of a product (N, K): where in `packed` layer 0's go, and how much further a layer's."""
        n, k = self.plan.products[product]
        row_cuts, group_cuts = _columns(n, self.plan.grid), _cuts(k // 32, WARPS)
        row, group = torch.arange(n), torch.arange(k // 32)
        block = torch.searchsorted(row_cuts, row, right=True) - 1
        warp = torch.searchsorted(group_cuts, group, right=True) - 1
        share = (block[:, None], warp[None, :])
        inner = (group - group_cuts[warp])[None, :] * row_cuts.diff()[block][:, None] + (row - row_cuts[block])[:, None]
        first = (self.starts + self.offsets[product])[share] // 16 + inner * 4
        step = self.layer_bytes[share] // 16
        quarter = torch.arange(4)
        device = self.packed.device
        return (
            (first[..., None] + quarter).flatten().to(device),
            step[..., None].expand(*step.shape, 4).flatten().to(device),
        )

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


def record_size(plan: Plan) -> int:
    """Numbers of 16 bits that blocks hand to each other in a layer; persistent_layers.cu's RECORD."""
    partial = 2 * plan.heads * plan.head_blocks * plan.rows * (HEAD + 2)
    return (plan.rows * (9 * plan.width + plan.ffn) + partial + 7) // 8 * 8


class PersistentLayers:
    """Buffers and the launch. `run` writes keys and values of the new tokens and leaves the stream for the last norm."""

    def __init__(self, packed: PackedLayers, eps: float, launch: Any) -> None:
        plan, device = packed.plan, packed.packed.device
        self.packed, self.plan, self.eps, self.launch = packed, plan, eps, launch
        half = record_size(plan)
        self.exchange = torch.full((2 * packed.layers * half,), -1, device=device, dtype=torch.int16)  # all empty
        self.counters = torch.zeros(2, device=device, dtype=torch.int32)

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
            self.packed.packed, self.packed.bases, self.packed.vectors, embedding, positions, tokens, start, ancestry,
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
