"""Compile every kernel to machine code for sm_80 and sm_90, no GPU needed: `python compile_all.py [--one] [DTYPE ...]`.

Each wrapper is called with large-v2's shapes on meta-like CPU tensors while its kernel is replaced by a recorder; the
recorded arguments give the signature. Prints one line a kernel and exits with 1 when one does not compile.
"""

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from whisper_speedup.fused.batch_decoder import BatchLaunch
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.kernels import (
    add_norm,
    batch_cross_attention,
    batch_self_attention,
    beam_update,
    bias_gelu,
    collect,
    content_hash,
    cross_attention,
    cross_layout,
    embed,
    linear_residual,
    norm_linear,
    norm_qkv,
    residual_norm,
    row_candidates,
    self_attention,
    vocabulary,
)
from whisper_speedup.kernels.beam_state import BatchState, BeamState
from whisper_speedup.kernels.stream import Stream

POINTERS = {
    torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int32: "*i32",
    torch.int64: "*i64", torch.int8: "*i8", torch.float8_e4m3fn: "*fp8e4nv",
}  # fmt: skip

ONE = "--one"  # variant a kernel


class Recorder:
    """Stands in for a kernel and keeps what it is launched with."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **kwargs: self.launches.append((args, kwargs))

    def compile(self, capability: int) -> list[int]:
        """Shared memory of each launch's machine code, in bytes."""
        used = []
        for args, options in self.launches[-1:] if ONE in sys.argv else self.launches:
            names, parameters = self.kernel.arg_names, self.kernel.params
            signature: dict[str, str] = {}
            constants: dict[str, Any] = {}
            attributes: dict[tuple[int, ...], list[list[Any]]] = {}
            for index, (name, parameter, value) in enumerate(zip(names, parameters, args, strict=True)):
                if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                    # As a launch specialises: aligned pointers and sizes let loads be wide and pipelined.
                    attributes[(index,)] = [["tt.divisibility", 16]]
                if parameter.is_constexpr or value is None:
                    attributes.pop((index,), None)
                    constants[name] = value
                    signature[name] = "constexpr"
                elif isinstance(value, torch.Tensor):
                    signature[name] = POINTERS[value.dtype]
                else:
                    signature[name] = "fp32" if isinstance(value, float) else "i32"
            source = ASTSource(self.kernel, signature, constants, attributes)
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            assert compiled.asm["cubin"]
            used.append(compiled.metadata.shared)
        return used


def launches(dtype: torch.dtype, programmatic: bool) -> dict[str, Recorder]:
    """Every kernel with launches of large-v2's shapes; `programmatic` adds dependent launch, which Hopper has."""
    recorders = {}
    modules = [
        add_norm, batch_cross_attention, batch_self_attention, beam_update, bias_gelu, collect, content_hash,
        cross_attention, cross_layout, embed, linear_residual, norm_linear, norm_qkv, residual_norm, row_candidates,
        self_attention, vocabulary,
    ]  # fmt: skip
    for module, name in [
        *((module, module.__name__.rsplit(".", 1)[1]) for module in modules),
        (add_norm, "embed_rows"),
    ]:
        attribute = f"_{name}_kernel"
        kernel = getattr(module, attribute)
        recorders[name] = Recorder(kernel.kernel if isinstance(kernel, Recorder) else kernel)
        setattr(module, attribute, recorders[name])
    d, heads, ffn, size, positions, beams, rows = 1280, 20, 5120, 51865, 54, 5, 5

    def half(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    def ints(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32)

    launch = LaunchConfig()
    stream = Stream(d, dtype, torch.device("cpu"))
    for pdl in (False, True) if programmatic else (False,):
        linear_residual.linear_residual(
            half(rows, ffn), half(d, ffn), half(d), stream, half(d), **vars(launch.fc2), pdl=pdl
        )  # fmt: skip
        norm_linear.norm_linear(
            stream, half(ffn, d), torch.empty(ffn), torch.empty(ffn), half(rows, ffn), 1e-5, True,
            **vars(launch.fc1), pdl=pdl,
        )  # fmt: skip
        keys, values = half(positions, beams, d), half(positions, beams, d)
        vector = torch.empty(3 * d)
        for prompt in (False, True):
            norm_qkv.norm_qkv(
                stream, half(3 * d, d), vector, vector, half(rows, d), keys, values, ints(1), 1e-5, prompt,
                **vars(launch.qkv), pdl=pdl,
            )  # fmt: skip
            self_attention.self_attention(
                half(rows, d), keys, values, ints(16, positions), ints(1), half(rows, d), heads, prompt, pdl=pdl
            )
            embed.embed(ints(rows), half(size, d), half(448, d), ints(1), stream, half(d), prompt, pdl=pdl)
    scratch = cross_attention.CrossAttentionScratch(heads, d // heads, launch.cross_shares, torch.device("cpu"))
    for pdl in (False, True) if programmatic else (False,):
        cross_attention.cross_attention(
            half(rows, d), half(1500, d), half(1500, d), half(rows, d), heads, scratch, pdl=pdl
        )  # fmt: skip
    tiles = triton.cdiv(size, launch.vocabulary.block_n)
    peak, candidates = torch.empty(tiles, 8), torch.empty(tiles, 8, 2 * beams, dtype=torch.int64)
    vocabulary.vocabulary(
        stream, 0, rows, half(size, d), torch.empty(size), torch.empty(size), torch.zeros(size, dtype=torch.int8),
        ints(1), peak, peak, candidates, 1e-5, 4, 1, **vars(launch.vocabulary), pdl=programmatic, done=ints(1),
    )  # fmt: skip
    state = BeamState(positions, torch.device("cpu"))
    for sources, early in ((1, False), (beams, True), (beams, "never")):
        beam_update.beam_update(
            state, peak, peak, candidates, sources, beams, size, 4, positions, 50257, 1.0, early, launch.update_warps
        )
    # fused/device_search.py: one tile as wide as the vocabulary, and room for every position.
    state, peak = BeamState(448, torch.device("cpu")), torch.empty(1, 8)
    candidates = torch.empty(1, 8, 2 * beams, dtype=torch.int64)
    for sources in (1, beams):
        beam_update.beam_update(state, peak, peak, candidates, sources, beams, size, 4, positions, 50257, 1.0, False)
    cross_layout.cross_layout(half(8, 1500, d), half(8, 1, d), half(4, heads, 48, 2, 2048))
    for bias in (None, half(d)):
        residual_norm.residual_norm(half(1500, d), bias, 64504.0, half(d), half(d), 1e-5)
    for weights in (torch.int8, torch.float8_e4m3fn) if programmatic else (torch.int8,):
        eight_bits(dtype, weights, programmatic)
    for word in (torch.int16, torch.int32):
        content_hash.content_hash(content_hash.chunks_of([torch.zeros(9, dtype=word)], [1]))
    batch(dtype)
    return recorders


def eight_bits(dtype: torch.dtype, weights: torch.dtype, programmatic: bool) -> None:
    """The products of a step with weights in 8 bits: fp8 only where a GPU converts it, from 8.9 on."""
    d, ffn, size, positions, beams, rows = 1280, 5120, 51865, 54, 5, 5

    def half(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    def rounded(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=weights)

    launch, stream = LaunchConfig(), Stream(d, dtype, torch.device("cpu"))
    one, vector = torch.zeros(1, dtype=torch.int32), torch.empty(size)
    linear_residual.linear_residual(
        half(rows, ffn), rounded(d, ffn), half(d), stream, half(d), **vars(launch.fc2), splits=4, pdl=programmatic,
        scale=vector[:d],
    )  # fmt: skip
    norm_linear.norm_linear(
        stream, rounded(ffn, d), vector[:ffn], vector[:ffn], half(rows, ffn), 1e-5, True, **vars(launch.fc1),
        pdl=programmatic, scale=vector[:ffn],
    )  # fmt: skip
    cache = half(positions, beams, d)
    norm_qkv.norm_qkv(
        stream, rounded(3 * d, d), vector[: 3 * d], vector[: 3 * d], half(rows, d), cache, cache, one, 1e-5, False,
        **vars(launch.qkv), pdl=programmatic, scale=vector[: 3 * d],
    )  # fmt: skip
    tiles = triton.cdiv(size, launch.vocabulary.block_n)
    peak, candidates = torch.empty(tiles, 8), torch.empty(tiles, 8, 2 * beams, dtype=torch.int64)
    vocabulary.vocabulary(
        stream, 0, rows, rounded(size, d), vector, vector, torch.zeros(size, dtype=torch.int8), one, peak, peak,
        candidates, 1e-5, 4, 1, **vars(launch.vocabulary), pdl=programmatic, done=one, scale=vector,
    )  # fmt: skip


def batch(dtype: torch.dtype, slots: int = 4) -> None:
    """The launches of fused_batch's encoder and step."""
    d, heads, ffn, size, positions, beams = 1280, 20, 5120, 51865, 54, 5
    rows, prompt = slots * beams, torch.zeros(4, dtype=torch.int32)

    def half(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    launch = BatchLaunch()
    state = BatchState(slots, positions, torch.device("cpu"))
    vector = torch.empty(3 * d)
    add_norm.embed_rows(
        state.tokens, prompt, state.position, half(size, d), half(448, d), half(d), torch.empty(rows, d), half(rows, d),
        1e-5, beams,
    )  # fmt: skip
    add_norm.add_norm(torch.empty(rows, d), half(rows, d), half(d), half(d), None, half(rows, d), 1e-5)
    add_norm.add_norm(torch.empty(rows, d), half(rows, d), vector[:d], half(d), None, half(rows, d), 1e-5)
    add_norm.add_norm(half(rows, d), half(rows, d), half(d), half(d), half(d), half(rows, d), 1e-5, 64504.0)
    bias_gelu.bias_gelu(half(rows, ffn), torch.empty(ffn))
    bias_gelu.bias_gelu(half(rows, ffn), half(ffn))
    cache = half(slots, positions, beams, d)
    batch_self_attention.batch_self_attention(
        half(rows, 3 * d), vector, cache, cache, state.ancestry, state.position, state.done, half(rows, d), 4, heads,
        launch.self_group, launch.self_block, launch.self_warps,
    )  # fmt: skip
    cross = half(slots, 2, 1500, d)
    for shares in (1, launch.cross_shares):
        scratch = batch_cross_attention.BatchCrossScratch(slots, heads, d // heads, shares, torch.device("cpu"))
        batch_cross_attention.batch_cross_attention(
            half(rows, d), vector[:d], cross[:, 0], cross[:, 1], state.done, half(rows, d), heads, beams, scratch,
            launch.cross_block, launch.cross_warps, launch.cross_stages,
        )  # fmt: skip
    tiles = triton.cdiv(size, launch.candidates_block)
    peak, candidates = torch.empty(slots, tiles, 8), torch.empty(slots, tiles, 8, 2 * beams, dtype=torch.int64)
    row_candidates.row_candidates(
        torch.empty(rows, 51904)[:, :size], torch.empty(size), torch.zeros(size, dtype=torch.int8), state.length,
        state.done, peak, peak, candidates, 4, 1, beams, launch.candidates_block, launch.candidates_warps,
    )  # fmt: skip
    beam_update.beam_update(
        state, peak, peak, candidates, beams, beams, size, 4, positions, 50257, 1.0, False, launch.update_warps,
        first_row=3, limits=state.limits,
    )  # fmt: skip
    collect.collect(state, slots)


def main() -> int:
    """0 when all compile."""
    failed = 0
    for dtype in [getattr(torch, name) for name in sys.argv[1:] if name != ONE] or [torch.float16]:
        for capability in (80, 90):
            for name, recorder in launches(dtype, capability >= 90).items():
                try:
                    shared = recorder.compile(capability)
                except Exception as error:  # any compiler error is a failure to report, whatever its type
                    failed += 1
                    print(f"{name} {dtype} sm_{capability}: {type(error).__name__}: {error}")
                else:
                    print(f"{name} {dtype} sm_{capability}: {len(shared)} launches, {max(shared)} bytes shared memory")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
