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

MOST_PARTS = tl.constexpr(256)  # a persistent kernel's programs, one a multiprocessor; more where 8 columns are one's
ROWS = 8  # the narrow side of a tensor-core tile; beams, or a prompt's tokens, fill the first few


class Stream:
    """`residual` (8, d) fp32, `scaled` (8, d) in the weights' type, `sums` (2, parts, 8) fp32: of x, and of x^2.

    `parts` is how many programs wrote last: the first so many entries of each half of `sums` are valid.
    """

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.residual = torch.zeros(ROWS, width, dtype=torch.float32, device=device)
        self.scaled = torch.zeros(ROWS, width, device=device, dtype=dtype)
        self.sums = torch.zeros(
            2, max(triton.cdiv(width, 8), MOST_PARTS.value), ROWS, dtype=torch.float32, device=device
        )
        # Scratch for products that split K (linear_residual.py): at most 8 splits.
        self.partial = torch.zeros(8 * triton.cdiv(width, 32) * 32 * ROWS, dtype=torch.float32, device=device)
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
        assert parts <= self.sums.shape[1]
        self.parts = parts


def pdl_option(pdl: bool) -> dict[str, bool]:
    """The launch option for programmatic dependent launch; absent where it is off, for Triton's interpreter."""
    return {"launch_pdl": True} if pdl else {}


# With programmatic dependent launch (Hopper and newer) a kernel's programs may start while the kernel before still
# ends. What a kernel loads before `wait_for_inputs` must come from further back: a kernel lets the next one start only
# after its own wait, so everything up to the last but one is complete by then.


@triton.jit
def let_next_start(PDL: tl.constexpr):
    """When a kernel's loads are done: the next kernel may start."""
    if PDL:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(PDL: tl.constexpr):
    """Everything that earlier kernels wrote is visible from here on."""
    if PDL:
        gdc_wait()


@triton.jit
def leave_for_norm(x, inside, row, cols, gamma, scaled_ptr, sums_ptr, part, n, ROWS: tl.constexpr):
    """Write what the next layer norm needs of the new stream values x (columns, rows), zero where not `inside`."""
    scaled = (x * gamma[:, None]).to(scaled_ptr.dtype.element_ty)
    tl.store(scaled_ptr + row[None, :] * n + cols[:, None], scaled, mask=inside)
    x = tl.where(inside, x, 0.0)
    place = sums_ptr + part * ROWS + row
    tl.store(place, tl.sum(x, axis=0))
    tl.store(place + tl.maximum(tl.cdiv(n, 8), MOST_PARTS) * ROWS, tl.sum(x * x, axis=0))


@triton.jit
def load_sums(sums_ptr, parts, row, n, PARTS: tl.constexpr, ROWS: tl.constexpr):
    """The partial sums and sums of squares of the stream's rows `row`: two (PARTS, rows)."""
    part = tl.arange(0, PARTS)
    place = sums_ptr + part[:, None] * ROWS + row[None, :]
    there = (part < parts)[:, None] & (row < ROWS)[None, :]
    sums = tl.load(place, mask=there, other=0.0)
    return sums, tl.load(place + tl.maximum(tl.cdiv(n, 8), MOST_PARTS) * ROWS, mask=there, other=0.0)


@triton.jit
def norm_statistics(sums, squares, n, eps):
    """Mean and reciprocal standard deviation of each row, the partial sums added in their order."""
    mean = tl.sum(sums, axis=0) / n
    return mean, tl.rsqrt(tl.sum(squares, axis=0) / n - mean * mean + eps)
