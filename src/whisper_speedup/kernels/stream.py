"""The residual stream between kernels, and what its writers leave for the layer norm that reads it next.

A layer norm needs the mean and the variance of whole rows, and the product behind it needs x * gamma in the weights'
type. Whoever writes the stream has each of its columns at hand once, so it leaves both: `scaled` = x * gamma of the
norm to come, and per program the sums of x and x^2 over its columns. The reader adds those partial sums in their
order, so the result does not depend on timing. Without this every reading program would work them out again, and
that took longer than its weights.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

ROWS = 8  # the narrow side of a tensor-core tile; beams, or a prompt's tokens, fill the first few


class Stream:
    """`residual` (8, d) fp32, `scaled` (8, d) in the weights' type, `sums` (parts, 8, 2) fp32: sum and sum of squares.

    `parts` is how many programs wrote last: the first so many entries of `sums` are valid.
    """

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.residual = torch.zeros(ROWS, width, device=device)
        self.scaled = torch.zeros(ROWS, width, device=device, dtype=dtype)
        self.sums = torch.zeros(triton.cdiv(width, 8), ROWS, 2, device=device)
        # Scratch for products that split K (linear_residual.py): at most 8 splits.
        self.partial = torch.zeros(8 * triton.cdiv(width, 32) * 32 * ROWS, device=device)
        self.arrived = torch.zeros(triton.cdiv(width, 8), dtype=torch.int32, device=device)
        self.parts = 1
        self.width = width

    def split_scratch(self, columns: int, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for partial products of `columns` columns, and arrival counts of `parts` column tiles."""
        assert columns * ROWS <= self.partial.numel()
        assert parts <= self.arrived.numel()
        return self.partial, self.arrived

    def wrote(self, parts: int) -> None:
        """Record that a kernel of `parts` programs has written the stream."""
        assert parts <= self.sums.shape[0]
        self.parts = parts


# Programmatic dependent launch, as bits of a kernel's `pdl`: when it lets the next kernel start, and whether it asks
# for its weights before it waits for its inputs. 0 is an ordinary launch.
SIGNAL_LATE, SIGNAL_EARLY, PREFETCH = 1, 2, 4


@triton.jit
def begin_launch(PDL: tl.constexpr):
    """At a kernel's start: let the next kernel start at once, if it is to be early."""
    if PDL & 2:
        gdc_launch_dependents()


@triton.jit
def near_end(PDL: tl.constexpr):
    """When a kernel's loads are done: let the next kernel start, if it is to be late."""
    if PDL & 1:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(PDL: tl.constexpr):
    """Everything that earlier kernels wrote is visible from here on."""
    if PDL != 0:
        gdc_wait()


@triton.jit
def prefetch(address):
    """Ask for the cache lines at a tensor of pointers; they arrive in L2 while this kernel still waits."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [address.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def prefetch_rows(w_ptr, cols, n, k, K_LINES: tl.constexpr):
    """Prefetch the rows `cols` of a (n, k) matrix of 2-byte values; K_LINES is a power of two, k / 64 or above."""
    line = tl.minimum(tl.arange(0, K_LINES), (k - 1) // 64)
    row = tl.minimum(cols, n - 1)
    prefetch(w_ptr + row[:, None] * k + line[None, :] * 64)


@triton.jit
def leave_for_norm(x, inside, row, cols, gamma_ptr, scaled_ptr, sums_ptr, part, n, ROWS: tl.constexpr):
    """Write what the next layer norm needs of the new stream values x (columns, rows), zero where not `inside`."""
    gamma = tl.load(gamma_ptr + cols, mask=cols < n, other=0.0).to(tl.float32)
    scaled = (x * gamma[:, None]).to(scaled_ptr.dtype.element_ty)
    tl.store(scaled_ptr + row[None, :] * n + cols[:, None], scaled, mask=inside)
    x = tl.where(inside, x, 0.0)
    place = sums_ptr + (part * ROWS + row) * 2
    tl.store(place, tl.sum(x, axis=0))
    tl.store(place + 1, tl.sum(x * x, axis=0))


@triton.jit
def norm_statistics(sums_ptr, parts, row, n, eps, PARTS: tl.constexpr, ROWS: tl.constexpr):
    """Mean and reciprocal standard deviation of the stream's rows `row`, from the partial sums, in their order."""
    part = tl.arange(0, PARTS)
    place = sums_ptr + (part[:, None] * ROWS + row[None, :]) * 2
    there = (part < parts)[:, None] & (row < ROWS)[None, :]
    mean = tl.sum(tl.load(place, mask=there, other=0.0), axis=0) / n
    square = tl.sum(tl.load(place + 1, mask=there, other=0.0), axis=0) / n
    return mean, tl.rsqrt(square - mean * mean + eps)
