"""Each kernel against its floor, torch and its other launch configurations, on this GPU; one JSON a run.

    python benchmarks/kernel_times.py --size large-v2

A kernel is timed inside a CUDA graph over enough different weights to overflow the L2 cache, as in a real step. The
floor is the bytes it must read over the bandwidth that a large copy reaches in the same run. `--write` keeps the best
configurations in src/whisper_speedup/fused/launch/GPU.json, where the engine finds them.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import device_label, record

from whisper_speedup.checkpoints.synthetic import config as published_config
from whisper_speedup.disk.files import write_json
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.launch import FOLDER, Tile
from whisper_speedup.fused.launch_cache import file_name
from whisper_speedup.kernels import cross_attention as cross
from whisper_speedup.kernels.linear_residual import linear_residual, linear_residual_reference
from whisper_speedup.kernels.norm_linear import fold_norm, norm_linear, norm_linear_reference
from whisper_speedup.kernels.self_attention import self_attention
from whisper_speedup.kernels.stream import Stream
from whisper_speedup.kernels.vocabulary import vocabulary
from whisper_speedup.measure.bandwidth import copy_bandwidth

BEAMS = 5
SMALL = [
    Tile(n, k, warps, stages)
    for n, k, warps, stages in itertools.product((8, 16, 32), (128, 256), (1, 2, 4), (4, 6))
]  # fmt: skip
LARGE = [
    Tile(n, k, warps, stages)
    for n, k, warps, stages in itertools.product((64, 128, 256), (64, 128), (4, 8), (3, 4))
]  # fmt: skip


def main() -> None:
    """Time, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--write", action="store_true", help="keep the best configurations for the engine")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = published_config(arguments.size)
    bandwidth = copy_bandwidth(torch.device("cuda"))
    rows = measure(shape["d_model"], shape["decoder_attention_heads"], shape["vocab_size"], bandwidth)
    gpu = device_label(torch.device("cuda"))
    path = record("kernels", gpu, arguments.out, size=arguments.size, copy_bandwidth_gb_s=bandwidth / 1e9, rows=rows)
    best = choose(rows)
    if arguments.write:
        target = FOLDER / file_name(torch.cuda.get_device_name())
        known = json.loads(target.read_text()) if target.is_file() else {}
        chosen: dict[str, Any] = {}
        for name, row in best.items():
            chosen.update(row["config"] if name in ("cross", "self") else {name: row["config"]})
        write_json(target, {**known, str(shape["d_model"]): chosen})
    for name, row in best.items():
        print(f"{name:12} {row['us']:7.2f} us  floor {row['floor_us']:6.2f}  torch {row['torch_us']}  {row['config']}")
    print(path)


def graph_seconds(calls: list[Callable[[], Any]], replays: int = 30) -> float:
    """Median seconds of one call, the calls in one CUDA graph."""

    def run() -> None:
        for call in calls:
            call()

    graph = capture(torch.device("cuda"), {"calls": run}, warm=calls[:1])["calls"]
    graph.replay()
    samples = []
    for _ in range(replays):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) / 1e3 / len(calls))
    return sorted(samples)[len(samples) // 2]


def measure(d: int, heads: int, size: int, bandwidth: float) -> list[dict[str, Any]]:
    """All rows: kernel, shape, config, us, floor_us, torch_us, error."""
    rows: list[dict[str, Any]] = []
    x = torch.randn(BEAMS, d, device="cuda") * 2 + 0.1
    gamma = torch.rand(d, device="cuda").half() + 0.5
    stream = fill(x, gamma)
    for name, n in (("qkv", 3 * d), ("query", d), ("fc1", 4 * d)):
        rows += _normed(name, x, gamma, stream, n, bandwidth, gelu=name == "fc1")
    for name, k in (("out", d), ("fc2", 4 * d)):
        rows += _residual(name, d, k, bandwidth)
    rows += _cross(d, heads, bandwidth)
    rows += _vocabulary(x, gamma, stream, size, bandwidth)
    positions = 54
    keys = torch.randn(32, positions, BEAMS, d, device="cuda", dtype=torch.float16)
    query, out = torch.randn(BEAMS, d, device="cuda").half(), torch.empty(BEAMS, d, device="cuda").half()
    ancestry = torch.zeros(16, positions, dtype=torch.int32, device="cuda")
    start = torch.full((1,), 40, dtype=torch.int32, device="cuda")
    for block, warps in itertools.product((32, 64), (1, 2, 4)):
        calls = [
            lambda i=i, b=block, w=warps: self_attention(
                query, keys[i], keys[i], ancestry, start, out, heads, False, b, w
            )
            for i in range(32)
        ]  # fmt: skip
        floor = 41 * BEAMS * d * 4 / bandwidth
        rows.append(_row("self", [BEAMS, 41, d], {"self_block": block, "self_warps": warps}, calls, floor, None, None))
    return rows


def fill(x: torch.Tensor, gamma: torch.Tensor) -> Stream:
    """A stream that holds x (rows, d) and is left for the norm with `gamma`, as 80 programs would leave it."""
    stream = Stream(x.shape[1], gamma.dtype, x.device)
    stream.residual[: x.shape[0]] = x
    stream.scaled[: x.shape[0]] = (x * gamma).to(gamma.dtype)
    parts = x.view(x.shape[0], 80, -1)
    stream.sums[:, :80, : x.shape[0]] = torch.stack([parts.sum(-1), (parts * parts).sum(-1)]).transpose(1, 2)
    stream.wrote(80)
    return stream


def _copies(count: int, *shape: int) -> list[torch.Tensor]:
    return [torch.randn(*shape, device="cuda", dtype=torch.float16) * shape[-1] ** -0.5 for _ in range(count)]


def _row(
    kernel: str, shape: list[int], config: Any, calls: list[Callable[[], Any]], floor: float, plain: float | None,
    error: float | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "kernel": kernel, "shape": shape, "config": vars(config) if isinstance(config, Tile) else config,
        "us": graph_seconds(calls) * 1e6, "floor_us": floor * 1e6,
        "torch_us": None if plain is None else round(plain * 1e6, 2), "error": error,
    }  # fmt: skip


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    error = float((found.float() - expected).norm() / expected.norm())
    if not error < 5e-3:
        raise SystemExit(f"a kernel is wrong: relative error {error}")
    return error


def _normed(
    name: str, x: torch.Tensor, gamma: torch.Tensor, stream: Stream, n: int, bandwidth: float, gelu: bool
) -> list[dict[str, Any]]:
    d = x.shape[1]
    count = max(4, int(150e6 / (2 * n * d)))
    weights = _copies(count, n, d)
    bias, beta = (torch.randn(k, device="cuda").half() for k in (n, d))
    folded = [fold_norm(w, bias, gamma, beta) for w in weights]
    out = torch.empty(BEAMS, n, device="cuda", dtype=torch.float16)
    half = x.half()
    plain = graph_seconds([lambda w=w: torch.nn.functional.linear(half, w, bias) for w in weights])
    expected = norm_linear_reference(x, weights[0], bias, gamma, beta, 1e-5, gelu)
    rows = []
    for tile in SMALL:
        calls = [
            lambda w=w, f=f, t=tile: norm_linear(stream, w, f[0], f[1], out, 1e-5, gelu, **vars(t))
            for w, f in zip(weights, folded, strict=True)
        ]  # fmt: skip
        calls[0]()
        error = _error(out, expected)
        rows.append(_row(name, [n, d], tile, calls, 2 * n * d / bandwidth, plain, error))
    return rows


def _residual(name: str, n: int, k: int, bandwidth: float) -> list[dict[str, Any]]:
    weights = _copies(max(4, int(150e6 / (2 * n * k))), n, k)
    bias, x = torch.randn(n, device="cuda").half(), torch.randn(BEAMS, k, device="cuda").half()
    gamma = torch.rand(n, device="cuda").half()
    stream = Stream(n, x.dtype, x.device)
    plain = graph_seconds([lambda w=w: torch.nn.functional.linear(x, w, bias) for w in weights])
    rows = []
    for tile in SMALL:
        calls = [lambda w=w, t=tile: linear_residual(x, w, bias, stream, gamma, **vars(t)) for w in weights]
        stream.residual.zero_()
        expected = linear_residual_reference(x, weights[0], bias, stream.residual[:BEAMS])
        calls[0]()
        error = _error(stream.residual[:BEAMS], expected)
        rows.append(_row(name, [n, k], tile, calls, 2 * n * k / bandwidth, plain, error))
    return rows


def _cross(d: int, heads: int, bandwidth: float) -> list[dict[str, Any]]:
    n = 1500
    states = [(torch.randn(n, d, device="cuda").half(), torch.randn(n, d, device="cuda").half()) for _ in range(24)]
    query, out = torch.randn(BEAMS, d, device="cuda").half(), torch.empty(BEAMS, d, device="cuda").half()
    expected = cross.cross_attention_reference(query, *states[0], heads)
    rows = []
    for shares, warps in itertools.product((4, 6, 8, 12), (2, 4, 8)):
        scratch = cross.CrossAttentionScratch(heads, d // heads, shares, query.device)
        calls = [
            lambda s=s, sc=scratch, w=warps: cross.cross_attention(query, *s, out, heads, sc, w)
            for s in states
        ]  # fmt: skip
        calls[0]()
        error = _error(out, expected)
        setting = {"cross_shares": shares, "cross_warps": warps}
        rows.append(_row("cross", [BEAMS, n, d], setting, calls, 4 * n * d / bandwidth, None, error))
    return rows


def _vocabulary(
    x: torch.Tensor, gamma: torch.Tensor, stream: Stream, size: int, bandwidth: float
) -> list[dict[str, Any]]:
    d = x.shape[1]
    weights = _copies(3, size, d)
    beta = torch.randn(d, device="cuda").half()
    zeros = torch.zeros(size, device="cuda")
    folded = [fold_norm(w, zeros, gamma, beta) for w in weights]
    rules = torch.zeros(size, dtype=torch.int8, device="cuda")
    length = torch.full((1,), 10, dtype=torch.int32, device="cuda")
    half = x.half()
    plain = graph_seconds([lambda w=w: torch.nn.functional.linear(half, w) for w in weights])
    rows = []
    for tile in LARGE:
        tiles = -(-size // tile.block_n)
        peak, norm = torch.zeros(tiles, 8, device="cuda"), torch.zeros(tiles, 8, device="cuda")
        candidates = torch.zeros(tiles, 8, 2 * BEAMS, dtype=torch.int64, device="cuda")
        calls = [
            lambda w=w, f=f, t=tile, p=peak, m=norm, c=candidates: vocabulary(
                stream, 0, BEAMS, w, f[0], f[1], rules, length, p, m, c, 1e-5, 4, 1, **vars(t)
            )
            for w, f in zip(weights, folded, strict=True)
        ]  # fmt: skip
        try:
            rows.append(_row("vocabulary", [size, d], tile, calls, 2 * size * d / bandwidth, plain, None))
        except Exception as error:  # a configuration that needs more shared memory than there is
            print(f"vocabulary {tile}: {type(error).__name__}", file=sys.stderr)
    return rows


def choose(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fastest row of each kernel."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["kernel"] not in best or row["us"] < best[row["kernel"]]["us"]:
            best[row["kernel"]] = row
    return best


if __name__ == "__main__":
    main()
