"""Weights and cross-attention's keys and values as the persistent kernel streams them (persistent_layers.py).

A product (N, K) is cut by columns into blocks and by groups of 32 of K into warps. A block's share lies as (piece,
warp, group, column, 32): a lane's 16 bytes are 8 consecutive weights, and a warp's reads meet no bank twice. The unit
of cross-attention is 32 keys of a head, (2, 32 keys, 32), and their values (64, 32 keys), the keys in the order in
which the tensor cores hold the weights: 8 i + 2 t + e at 8 t + 2 i + e.
"""

import copy
from dataclasses import replace

import torch

from whisper_speedup.kernels.persistent_plan import HEAD, WARPS, Plan


class PackedLayers:
    """Every layer's matrices as the blocks' streams, and their vectors.

    `packed` (bytes / 2,) in the weights' type; `vectors` fp32: the last norm's gamma, then for each layer what
    persistent_layers.cu lists.
    """

    def __init__(self, plan: Plan, layers: int, device: torch.device, dtype: torch.dtype) -> None:
        self.plan, self.layers = plan, layers
        self.packed = torch.zeros(plan.grid * layers * plan.layer_bytes // 2, device=device, dtype=dtype)
        self.vectors = torch.zeros(
            plan.width + layers * (11 * plan.width + 2 * plan.ffn), dtype=torch.float32, device=device
        )
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
        before = sum(one.block_bytes for one in plan.products[:index])
        # The same arithmetic as the kernel's: block b's columns begin at 2 (N / 2 b / blocks).
        cuts = 2 * (torch.arange(plan.grid + 1) * (product.n // 2) // plan.grid)
        row, group = torch.arange(product.n), torch.arange(product.k // 32)
        block = torch.searchsorted(cuts, row, right=True) - 1
        warp, own = group // product.groups, group % product.groups
        piece, inside = own // product.piece_groups, own % product.piece_groups
        share = torch.clamp(product.groups - piece * product.piece_groups, max=product.piece_groups)  # groups of a warp
        of_block = product.group_bytes * (WARPS * piece * product.piece_groups + warp * share + inside)
        of_row = block * (self.layers * plan.layer_bytes) + before + (row - cuts[block]) * 64
        at = of_row[:, None] + of_block[None, :]
        return (at[..., None] // 16 + torch.arange(4)).flatten()

    def add_vectors(self, *vectors: torch.Tensor) -> None:
        """Append vectors in the kernel's order."""
        for vector in vectors:
            count = vector.numel()
            self.vectors[self.filled : self.filled + count].copy_(vector)
            self.filled += count

    def planned(self, plan: Plan) -> "PackedLayers":
        """The same memory for a launch of another number of rows, which says nothing of where a weight lies."""
        assert replace(plan, rows=self.plan.rows, ring=self.plan.ring) == self.plan
        other = copy.copy(self)
        other.plan = plan
        return other

    def done(self) -> None:
        """Forget what only packing needed."""
        assert self.filled == self.vectors.numel()
        self.places.clear()


def pack_cross(plan: Plan, keys: torch.Tensor, values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """keys and values (n, d) of one layer into `out` (heads, units, 2, 2048), the kernel's units; in plain torch."""
    n, heads, units = keys.shape[0], plan.heads, plan.all_units

    def padded(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, 0, 0, units * 32 - n)).view(units, 32, heads, HEAD)

    # keys: unit, key, head, half, 32 -> head, unit, half, key, 32
    out[:, :, 0] = padded(keys).view(units, 32, heads, 2, 32).permute(2, 0, 3, 1, 4).reshape(heads, units, 2048)
    # values: unit, i, t, e, head, dim -> head, unit, dim, t, i, e
    parts = padded(values).view(units, 4, 4, 2, heads, HEAD)
    out[:, :, 1] = parts.permute(4, 0, 5, 2, 1, 3).reshape(heads, units, 2048)
    return out
