"""All decoder layers of a step in one launch: blocks that stay, and weights that are always on their way.

    for each layer: x <- x + attend(norm(x));  x <- x + cross_attend(norm(x));  x <- x + W2 gelu(W1 norm(x))

The separate kernels (norm_qkv.py and its neighbours) start and drain eight times a layer, and memory idles meanwhile.
Here one block a multiprocessor lives through the whole step, and its share of all weights is one stream in memory, in
the order in which it is read, that the bulk copy engine brings through a ring in shared memory, ahead of the warps.
Cross-attention's keys and values come through the same ring. What blocks hand to each other says by itself whether
it is there: a word that is not yet written holds a NaN that no arithmetic gives. Each launch empties what the next one
will use.

Triton has words neither for such copies nor for such waiting, hence CUDA C++ (persistent_layers.cu), compiled by NVRTC,
which comes with PyTorch: no compiler is needed. It serves Hopper and newer, heads 64 wide and at most 8 rows; elsewhere
the Triton kernels do the same work (fused/device_decoder.py).

Blocks wait for each other, so all of them must be there at once. The launch is a cooperative one, also in a CUDA graph:
the driver starts all blocks or none, after whatever else is on the GPU has made room, and refuses a grid larger than
what it would grant this process (fewer multiprocessors under MPS or MIG: the grid is as large as torch says they are).
Other processes take turns with this one as ever, all blocks at once. What is not foreseen, such as a debugger that
stops some blocks and not others, ends a launch that looks PATIENCE times for the same word, seconds, and with it the
process's CUDA context; `gave_up` tells that from other failures.

The norms' gamma is folded into the weights behind them, and their statistics come from the tensor cores, as x x^T and
the product with ones beside the product itself: x is handed over once, rounded to 16 bits.

Bytes of large-v2, 5 beams: 1.47 GB of weights and 0.25 GB of cross-attention keys and values, 0.57 ms at 3.0 TB/s.
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from whisper_speedup.kernels.cross_attention import cross_attention_reference
from whisper_speedup.kernels.decoder_layers import DecoderLayer, decoder_layers
from whisper_speedup.kernels.linear_residual import linear_residual_reference
from whisper_speedup.kernels.norm_linear import norm_linear_reference
from whisper_speedup.kernels.norm_qkv import norm_qkv_reference
from whisper_speedup.kernels.persistent_packing import PackedLayers
from whisper_speedup.kernels.persistent_plan import LINE, WARPS, WAYS, Plan
from whisper_speedup.kernels.self_attention import self_attention_reference
from whisper_speedup.kernels.stream import Stream

FOLDER = Path(__file__).parent
NAME = "persistent_layers"
PARTS = ("persistent_ring", "persistent_words", "persistent_product", "persistent_attention")  # .cuh, before NAME.cu
THREADS = 32 * (WARPS + 1)
TENSORS = 17  # among the arguments, before 6 numbers and eps
Launch = Callable[..., None]


class Plain(NamedTuple):
    """A product as it comes: weight (N, K), bias (N,), and gamma and beta (K,) of the norm before it."""

    weight: torch.Tensor
    bias: torch.Tensor
    gamma: torch.Tensor | None = None
    beta: torch.Tensor | None = None


PlainLayer = DecoderLayer[Plain, Plain]


@dataclass
class ReferenceOps:
    """See Ops: the kernels' references over x (rows, d) fp32, and what persistent_layers_reference takes."""

    x: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    cross_keys: torch.Tensor
    cross_values: torch.Tensor
    ancestry: torch.Tensor
    start: int
    prompt: bool
    heads: int
    eps: float

    def qkv(self, index: int, product: Plain) -> None:
        """See Ops."""
        self.out = norm_qkv_reference(
            self.x, *product, self.eps, self.keys[index], self.values[index], self.start, self.prompt
        )  # fmt: skip

    def self_attend(self, index: int) -> None:
        """See Ops."""
        self.out = self_attention_reference(
            self.out, self.keys[index], self.values[index], self.ancestry, self.start, self.prompt, self.heads
        )  # fmt: skip

    def add(self, product: Plain) -> None:
        """See Ops."""
        self.x = linear_residual_reference(self.out, product.weight, product.bias, self.x)

    def normed(self, product: Plain, gelu: bool = False) -> None:
        """See Ops."""
        self.out = norm_linear_reference(self.x, *product, self.eps, gelu=gelu)

    def cross_attend(self, index: int) -> None:
        """See Ops."""
        self.out = cross_attention_reference(self.out, self.cross_keys[index], self.cross_values[index], self.heads)


def persistent_layers_reference(
    x: torch.Tensor,
    layers: Sequence[PlainLayer],
    keys: torch.Tensor,
    values: torch.Tensor,
    cross_keys: torch.Tensor,
    cross_values: torch.Tensor,
    ancestry: torch.Tensor,
    start: int,
    prompt: bool,
    heads: int,
    eps: float,
) -> torch.Tensor:
    """x (rows, d) fp32, token and position embedding added, to (rows, d) fp32 before the last norm.

    Writes keys and values (layers, positions, beams, d) in place; cross_keys and cross_values (layers, n, d).
    """
    ops = ReferenceOps(x, keys, values, cross_keys, cross_values, ancestry, start, prompt, heads, eps)
    decoder_layers(ops, layers)
    return ops.x


def pack_layers(
    plan: Plan, count: int, layers: Iterable[PlainLayer], last_gamma: torch.Tensor, device: torch.device,
    dtype: torch.dtype,
) -> PackedLayers:  # fmt: skip
    """`count` layers as the kernel reads them, one after the other; `last_gamma` of the norm behind the last."""
    packed = PackedLayers(plan, count, device, dtype)
    packed.add_vectors(last_gamma)
    for index, layer in enumerate(layers):
        for product, (weight, bias, gamma, beta) in enumerate(vars(layer).values()):
            if gamma is None or beta is None:
                packed.put(index, product, weight)
                packed.add_vectors(bias)
                continue
            exact = weight.detach().to(device).float()
            folded = (exact * gamma.detach().to(device).float()).to(dtype)
            packed.put(index, product, folded)
            # A sum and not a product with beta: TF32 products may be allowed where this runs.
            offset = (exact * beta.detach().to(device).float()).sum(1) + bias.detach().to(device).float()
            packed.add_vectors(folded.float().sum(1), offset)
    packed.done()
    return packed


def source(plan: Plan, machine: str | None = None) -> str:
    """The kernel's whole source; `machine` stands in for hopper.cuh."""
    lines = [f"#define {name} {value}" for name, value in plan.macros().items()]
    if plan.half == "bfloat16":
        lines.append("#define BF16")
    files = ("hopper.cuh", *(f"{part}.cuh" for part in PARTS), f"{NAME}.cu")
    hopper, *parts = ((FOLDER / file).read_text(encoding="utf-8") for file in files)
    return "\n".join([*lines, machine if machine is not None else hopper, *parts])


def compiled(plan: Plan, defines: str = "", extra: Sequence[Any] = ()) -> Launch:
    """The launch, compiled for this GPU (seconds). `defines` and `extra` arguments are for benchmarks.

    Raises what torch raises where NVRTC is missing or refuses the source.
    """
    kernel = torch.cuda._compile_kernel(defines + source(plan), NAME)
    kernel.set_shared_memory_config(plan.shared_bytes)
    driver = ctypes.CDLL("libcuda.so.1")

    def launch(*args: Any) -> None:
        held = [_argument(one) for one in (*args, *extra)]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(one) for one in held))
        stream = torch.cuda.current_stream()._as_parameter_
        status = driver.cuLaunchCooperativeKernel(
            kernel.func, plan.grid, 1, 1, THREADS, 1, 1, plan.shared_bytes, stream, pointers
        )
        if status:
            text = ctypes.c_char_p()
            driver.cuGetErrorString(status, ctypes.byref(text))
            raise RuntimeError(f"CUDA driver error: {(text.value or b'unknown').decode()} ({status})")

    return launch


def probe(launch: Launch, device: torch.device) -> None:
    """Launch with nothing to do. Raises RuntimeError where the driver does not grant all blocks at once."""
    done = torch.ones(1, dtype=torch.int32, device=device)
    launch(*[done] * TENSORS, *[0] * 6, 0.0)
    torch.cuda.synchronize(device)


def _argument(value: Any) -> Any:
    """A kernel's argument as the driver takes it."""
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int(value)


class PersistentLayers:
    """Buffers and the launch. `run` writes keys and values of the new tokens and leaves the stream for the last norm.

    Launches of one object follow one another on one stream: each empties what the next one hands over in.
    """

    def __init__(self, packed: PackedLayers, eps: float, launch: Launch) -> None:
        plan, device = packed.plan, packed.packed.device
        self.packed, self.plan, self.eps, self.launch = packed, plan, eps, launch
        self.exchange = torch.full((2 * packed.layers * plan.record,), -1, device=device, dtype=torch.int16)  # empty
        self.counters = torch.zeros(LINE * (1 + WAYS), device=device, dtype=torch.int32)
        # The host's own memory: it can be read when the GPU no longer answers.
        self.gave_up = torch.zeros(1, dtype=torch.int32, pin_memory=device.type == "cuda")

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
        done: torch.Tensor,
    ) -> Stream:
        """tokens (rows,), start (1,) and ancestry (rows or more, positions) int32; embedding (size, d) and positions
        (positions, d); keys and values (layers, positions, beams, d); cross (layers, heads, units, 2, 2048); done (1,)
        int32: not 0 where there is nothing left to do.
        """
        rows = tokens.shape[0]
        layers, most, beams, _ = keys.shape
        assert rows <= self.plan.rows and layers == self.packed.layers and ancestry.shape[1] == most
        assert cross.shape[:3] == (layers, self.plan.heads, self.plan.all_units) and cross.is_contiguous()
        assert keys.is_contiguous() and values.shape == keys.shape and ancestry.is_contiguous()
        self.launch(
            self.packed.packed, self.packed.vectors, embedding, positions, tokens, start, ancestry, keys, values, cross,
            self.exchange, stream.residual, stream.scaled, stream.sums, self.counters, done, self.gave_up, layers, rows,
            beams, most, self.plan.keys, int(prompt), self.eps,
        )  # fmt: skip
        stream.wrote(self.plan.grid)
        return stream
