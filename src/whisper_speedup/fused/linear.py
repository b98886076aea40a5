"""One product of a decoder step: weight, bias, and what is fused behind it.

On a CPU in fp32 a weight is packed once, and the packed copy replaces it:

- in oneDNN's blocked layout, as torch.compile's freezing does it: 1.8 ms instead of 3.2 for 5 rows of tiny.en's
  vocabulary on two Xeon cores;
- where few rows come and all its values are exact in fp16, as published weights are, in FBGEMM's fp16 layout: half
  the bytes, fp32 arithmetic, the same result, 1.0 ms.

The operators are torch's own but not public, so where they are missing the plain product runs.
"""

import torch
from torch.nn.functional import linear

# oneDNN chooses the layout for a number of rows. Told 16, it serves 1 to 1500 rows well; told nothing, the vocabulary
# product of 5 rows takes 8 ms.
ROWS_HINT = 16


class Linear:
    """y = x W^T + b for rows x (rows, inputs); W (outputs, inputs), b (outputs,) or None.

    `few_rows` says that a call brings about as many rows as there are beams, so that reading W is what takes time.
    `pack=False` keeps W as it is.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, few_rows: bool = False, pack: bool = True
    ) -> None:
        self.bias = bias
        self.half = _pack_half(weight, bias) if few_rows and pack else None
        self.packed = _pack(weight) if self.half is None and pack else None
        self.weight = weight if self.half is None and self.packed is None else None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The product alone: (rows, outputs)."""
        if self.half is not None:
            return torch.ops.quantized.linear_dynamic_fp16(rows, self.half)
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")
        return linear(rows, self.weight, self.bias)  # type: ignore[arg-type]

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """The product, then exact (erf) GELU. oneDNN could fuse them, but its erf is slower than torch's own pass."""
        return torch.ops.aten.gelu_(self(rows))

    def add(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The product plus a residual (rows, outputs)."""
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self.packed, self.bias, "add")
        return residual + self(rows)


def _pack(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight in oneDNN's blocked layout, or None where that does not apply."""
    if not _on_cpu(weight) or not torch.backends.mkldnn.is_available():
        return None
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_reorder_linear_weight") or not hasattr(operators, "_linear_pointwise"):
        return None
    return operators._reorder_linear_weight(weight, ROWS_HINT)


def _pack_half(weight: torch.Tensor, bias: torch.Tensor | None) -> object | None:
    """The weight in FBGEMM's fp16 layout, or None where that would change it or does not apply."""
    if not _on_cpu(weight) or "fbgemm" not in torch.backends.quantized.supported_engines:
        return None
    if not torch.equal(weight.half().float(), weight):
        return None
    return torch.ops.quantized.linear_prepack_fp16(weight, bias)


def _on_cpu(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
