"""All decoder layers in one launch (kernels/persistent_layers.py) against the chain of Triton kernels.

    python benchmarks/persistent_layers.py --sizes large-v2 tiny.en --beams 5

Synthetic weights and random keys; both run the same step and prompt from the same buffers. Prints the largest
difference of the residual stream beside its scale, then milliseconds of the layers alone and of a whole step (graph
replays), and writes one JSON. `--timeline` adds where a step's cycles go, part by part.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from step_times import build

from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_decoder import DeviceDecoder
from whisper_speedup.fused.launch import load_launch_config
from whisper_speedup.kernels import persistent_plan
from whisper_speedup.kernels.persistent_layers import PersistentLayers, Plain, PlainLayer, compiled, pack_layers
from whisper_speedup.kernels.persistent_packing import PackedLayers, pack_cross
from whisper_speedup.kernels.persistent_plan import Plan, make_plan
from whisper_speedup.kernels.stream import Stream
from whisper_speedup.measure.bandwidth import copy_bandwidth

# Settings of kernels/persistent_plan.py other than its own, or words that the source is compiled with.
VARIANTS: list[dict[str, Any]] = [
    {"AHEAD": 2},
    {"AHEAD": 4},
    {"WAYS": 1},
    {"defines": "KEEP_STREAMS"},  # what is streamed leaves L2 like everything else
    {"defines": "NO_GATE"},
]
WRONG = ("NO_GATE",)  # measures a part and computes nothing
PARTS = ["qkv", "self-attention", "out", "query", "cross-attention", "merge", "cross out", "fc1", "fc2"]


def pack(weights: Any, plan: Plan, device: torch.device, dtype: torch.dtype) -> PackedLayers:
    """The same weights for the persistent kernel; `beta` is in the offsets already, so it is given as nothing."""

    def plain(layer: Any) -> PlainLayer:
        def product(one: Any) -> Plain:
            if hasattr(one, "gamma"):
                return Plain(one.weight, one.offset, one.gamma, torch.zeros_like(one.gamma))
            return Plain(one.weight, one.bias)

        return PlainLayer(**{name: product(one) for name, one in vars(layer).items()})

    layers = [plain(layer) for layer in weights.layers]
    return pack_layers(plan, len(layers), layers, weights.projection.gamma, device, dtype)


def replay_ms(run: Any, before: Any, replays: int = 40, rounds: int = 5) -> list[float]:
    before()
    graph = capture(torch.device("cuda"), {"step": run})["step"]
    samples = []
    for _ in range(rounds):
        before()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(replays):
            graph.replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) / replays)
    return samples


@torch.inference_mode()
def measure(size: str, beams: int, timeline: bool, rows: list[Any]) -> None:
    device, dtype = torch.device("cuda"), torch.float16
    weights, settings, keys = build(size, beams)
    gpu = torch.cuda.get_device_properties(device)
    width = weights.embedding.shape[1]
    limit = settings.max_total(0)
    launch = load_launch_config(torch.cuda.get_device_name(), width)
    triton = DeviceDecoder(weights, settings, keys, limit, launch)
    ffn = weights.layers[0].fc1.weight.shape[0]
    plan = make_plan(
        width, ffn, weights.heads, keys, max(beams, len(settings.prompt)), gpu.multi_processor_count,
        gpu.shared_memory_per_block_optin,
    )  # fmt: skip
    assert plan is not None
    packed = pack(weights, plan, device, dtype)

    def use(defines: str = "", extra: tuple[Any, ...] = (), **settings: int) -> PersistentLayers:
        before = {name: getattr(persistent_plan, name) for name in settings}
        for name, value in settings.items():
            setattr(persistent_plan, name, value)
        words = "".join(f"#define {word}\n" for word in defines.split())
        made = PersistentLayers(packed, weights.layers[0].qkv.eps, compiled(plan, words, extra))
        for name, value in before.items():
            setattr(persistent_plan, name, value)
        return made

    triton.cross.normal_()
    layers = len(weights.layers)
    cross = torch.zeros(layers, plan.heads, plan.all_units, 2, 2048, device=device, dtype=dtype)
    for index in range(layers):
        pack_cross(plan, triton.cross[2 * index], triton.cross[2 * index + 1], cross[index])
    began = time.perf_counter()
    fast = use()
    ready_s = time.perf_counter() - began
    stream = Stream(width, dtype, device)
    theirs_kv = (triton.keys.normal_().clone(), triton.values.normal_().clone())
    ours_kv = (theirs_kv[0].clone(), theirs_kv[1].clone())
    state = triton.state
    never = torch.zeros(1, dtype=torch.int32, device=device)

    def run(tokens: torch.Tensor, start: torch.Tensor, prompt: bool) -> None:
        fast.run(
            tokens, start, weights.embedding, weights.positions, state.ancestry, *ours_kv, cross, stream, prompt, never
        )  # fmt: skip

    row: dict[str, Any] = {"size": size, "beams": beams, "plan": dict(vars(plan)), "shared_bytes": plan.shared_bytes,
                           "ready_s": ready_s, "checks": []}  # fmt: skip
    prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=device)
    state.reset(len(settings.prompt))
    for what, tokens, start, is_prompt in (
        ("prompt", prompt, 0, True), ("step", None, 4, False), ("step", None, 47, False),
        ("step", None, limit - 2, False),
    ):  # fmt: skip
        if tokens is None:
            tokens = torch.randint(0, 50000, (beams,), dtype=torch.int32, device=device)
            state.ancestry.random_(0, beams)
            state.ancestry[:beams, start] = torch.arange(beams, dtype=torch.int32, device=device)
        at = torch.tensor([start], dtype=torch.int32, device=device)
        state.position.copy_(at)
        exact = triton.hidden_states(tokens, tokens.shape[0], at, is_prompt).clone()
        run(tokens, at, is_prompt)
        torch.cuda.synchronize()
        ours = stream.residual[: tokens.shape[0]]
        same = []
        first = ours.clone()
        for _ in range(50):
            run(tokens, at, is_prompt)
            same.append(torch.equal(stream.residual[: tokens.shape[0]], first))
        check = {
            "what": what, "start": start, "difference": float((first - exact).abs().max()),
            "mean_difference": float((first - exact).abs().mean()), "scale": float(exact.abs().max()),
            "keys": float((ours_kv[0].float() - triton.keys.float()).abs().max()), "always_the_same": all(same),
        }  # fmt: skip
        row["checks"].append(check)
        print(size, json.dumps(check), flush=True)

    def restart() -> None:
        triton.prompt(prompt, limit, settings.max_positions)

    tokens, prompt_length = state.tokens[:beams], len(settings.prompt)

    def step_triton() -> None:
        triton.step(prompt_length, limit, settings.max_positions)

    def step_fast() -> None:
        run(tokens, state.position, False)
        triton.stream = stream
        triton._choose(0, beams, prompt_length, limit, settings.max_positions)

    def layers_triton() -> None:
        triton._layers(tokens, beams, state.position, prompt=False)

    own = triton.stream
    times = {}
    for name, work in (
        ("layers, triton", layers_triton), ("layers", lambda: run(tokens, state.position, False)),
        ("step, triton", step_triton), ("step", step_fast),
    ):  # fmt: skip
        triton.stream = own
        times[name] = replay_ms(work, restart)
        print(f"{size} {name}: {statistics.median(times[name]):.4f} ms", flush=True)
    triton.stream = own
    best = (statistics.median(times["step"]), 0, {})
    for index, variant in enumerate(VARIANTS):
        fast = use(**variant)
        name = ", ".join(str(v) if k == "defines" else f"{k} {v}" for k, v in variant.items())
        times[f"layers, {name}"] = replay_ms(lambda: run(tokens, state.position, False), restart)
        times[f"step, {name}"] = replay_ms(step_fast, restart)
        triton.stream = own
        layers_ms, step_ms = (statistics.median(times[f"{what}, {name}"]) for what in ("layers", "step"))
        if not any(word in name for word in WRONG):
            best = min(best, (step_ms, 1 + index, variant))
        print(f"{size} {name}: layers {layers_ms:.4f}, step {step_ms:.4f} ms", flush=True)
    row["times_ms"] = times
    if timeline:
        marks = torch.zeros(plan.grid, 2048, dtype=torch.int64, device=device)
        fast = use(**{**best[2], "defines": best[2].get("defines", "") + " TIMELINE", "extra": (marks,)})
        restart()
        for _ in range(5):
            run(tokens, state.position, False)
        torch.cuda.synchronize()
        row["timeline"] = summary(marks.cpu(), layers)
    rows.append(row)


def summary(marks: torch.Tensor, layers: int) -> dict[str, Any]:
    """Cycles between marks, and those spent waiting for weights: medians over layers of the blocks' median and most."""
    count = 18 * layers
    spans = marks[:, : count + 1].diff(dim=1).float().view(-1, layers, 9, 2)
    stalls = marks[:, 1024 : 1024 + count + 1].diff(dim=1).float().view(-1, layers, 9, 2)[..., 1]
    out = {}
    for index, part in enumerate(PARTS):
        wait, work, stall = spans[:, :, index, 0], spans[:, :, index, 1], stalls[:, :, index]
        out[part] = {
            "wait": wait.median(dim=0).values.median().item(), "shortest_wait": wait.min(dim=0).values.median().item(),
            "work": work.median(dim=0).values.median().item(), "most_work": work.max(dim=0).values.median().item(),
            "stall": stall.median(dim=0).values.median().item(), "most_stall": stall.max(dim=0).values.median().item(),
        }  # fmt: skip
        print(part, {key: round(value) for key, value in out[part].items()}, flush=True)
    print("a layer", round(spans.sum((2, 3)).median().item()), "cycles", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["large-v2"])
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--timeline", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    from record import device_label, record

    rows: list[Any] = []
    bandwidth = copy_bandwidth(torch.device("cuda")) / 1e9
    for size in arguments.sizes:
        measure(size, arguments.beams, arguments.timeline, rows)
        print(
            record(
                "persistent",
                device_label(torch.device("cuda")),
                arguments.out,
                rows=rows,
                copy_bandwidth_gb_s=bandwidth,
            )
        )


if __name__ == "__main__":
    main()
