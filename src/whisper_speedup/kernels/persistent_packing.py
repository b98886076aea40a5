"""Weights and cross-attention's keys and values as the persistent kernel streams them (persistent_layers.py).

A product (N, K) is cut by columns into blocks and by groups of 32 of K into warps. A warp's share lies as (group,
column, 32): a lane's 16 bytes are 8 consecutive weights, and a warp's reads meet no bank twice. fc2 is cut by columns
of K into blocks and by rows into warps; its words of two weights lie as the tensor cores' lanes hold them. The unit of
cross-attention is 32 keys of a head, (2, 32 keys, 32), and their values (64, 32 keys), the keys in the order in which
the tensor cores hold the weights: 8 i + 2 t + e at 8 t + 2 i + e.
"""

import torch

from whisper_speedup.kernels.persistent_plan import HEAD, WARPS, Plan

FC2 = 5  # a layer's last product


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
        together = 2 if product == FC2 else 8
        values = matrix.detach().to(self.packed.device, self.packed.dtype).reshape(-1, together)
        places = self.places[product] + layer * (self.plan.layer_bytes // (2 * together))
        self.packed.view(-1, together)[places] = values

    def _place(self, index: int) -> torch.Tensor:
        """Where in `packed` each 16 bytes of layer 0's product (N, K) go, or each 4 of fc2's."""
        if index == FC2:
            return self._place_inner()
        product = self.plan.products[index]
        cuts = self._cuts(product.n)
        row, group = torch.arange(product.n), torch.arange(product.k // 32)
        block = torch.searchsorted(cuts, row, right=True) - 1
        warp, own = group // product.groups, group % product.groups
        piece, inside = own // product.piece_groups, own % product.piece_groups
        at = self._stream(index, block[:, None], warp[None, :])
        at = at + (piece * product.piece_bytes + inside * product.columns * 64)[None, :]
        at = at + ((row - cuts[block]) * 64)[:, None]
        return (at[..., None] // 16 + torch.arange(4)).flatten()

    def _place_inner(self) -> torch.Tensor:
        product = self.plan.products[FC2]
        cuts = self._cuts(product.k)
        row, column = torch.arange(product.n), torch.arange(0, product.k, 2)
        block = torch.searchsorted(cuts, column, right=True) - 1
        k = (column - cuts[block])[None, :]
        tile, inside = (row // 16)[:, None], (row % 16)[:, None]
        warp, pair, tile = tile // (2 * product.groups), tile % (2 * product.groups) // 2, tile % 2
        # A lane's words of a tile: of each 16 columns rows g and g + 8, then the same of the latter 8 columns.
        whole = k // 16 < product.columns // 16
        word = tile * (product.columns // 4) + k // 16 * 4 + inside // 8 + torch.where(whole, k % 16 // 8 * 2, 0)
        lane = inside % 8 * 4 + k % 8 // 2
        piece, pair = pair // product.piece_groups, pair % product.piece_groups
        at = self._stream(FC2, block[None, :], warp) + piece * product.piece_bytes + pair * product.columns * 64
        return ((at + word // 4 * 512 + lane * 16 + word % 4 * 4) // 4).flatten()

    def _cuts(self, count: int) -> torch.Tensor:
        """Where the blocks' columns begin: the same arithmetic as the kernel's."""
        return 2 * (torch.arange(self.plan.grid + 1) * (count // 2) // self.plan.grid)

    def _stream(self, index: int, block: torch.Tensor, warp: torch.Tensor) -> torch.Tensor:
        """Byte at which a warp's share of layer 0's product begins."""
        before = sum(one.pieces * one.piece_bytes for one in self.plan.products[:index])
        return (block * WARPS + warp) * (self.layers * self.plan.layer_bytes) + before

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
    n, heads, units = keys.shape[0], plan.heads, plan.all_units

    def padded(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, 0, 0, units * 32 - n)).view(units, 32, heads, HEAD)

    # keys: unit, key, head, half, 32 -> head, unit, half, key, 32
    out[:, :, 0] = padded(keys).view(units, 32, heads, 2, 32).permute(2, 0, 3, 1, 4).reshape(heads, units, 2048)
    # values: unit, i, t, e, head, dim -> head, unit, dim, t, i, e
    parts = padded(values).view(units, 4, 4, 2, heads, HEAD)
    out[:, :, 1] = parts.permute(4, 0, 5, 2, 1, 3).reshape(heads, units, 2048)
    return out
