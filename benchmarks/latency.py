"""How long an utterance takes, engine by engine: one process each, rounds interleaved, one JSON a run.

    python benchmarks/latency.py --size large-v2 --rounds 5
    python benchmarks/latency.py --engines "notebook, no_grad" "half, reorder fix" ladder fused

    python benchmarks/latency.py --engines fused "fused, triton" fused_int8 fused_fp8

`ladder` stands for the rungs of profiles/ladder.yaml, each an engine of its own; without --engines all run. The formats
run the chain of Triton kernels, so "fused, triton" is what they are compared with.

    python benchmarks/latency.py --engines fused "optimize_model(model)" --before ../old

Synthetic weights (the text means nothing), random features, end-of-text forbidden, so that every utterance decodes
the same number of tokens. Each engine lives in a process of its own and decodes when told to, so that all of them see
the same clocks: A B C A B C ... A row holds every sample.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whisper_speedup.params.engines import RUNG
from whisper_speedup.params.profile import load_profile

LADDER = load_profile("ladder", Path(__file__).resolve().parents[1] / "profiles").measure.of("ladder").root
ENGINES: dict[str, dict[str, Any]] = {
    "notebook, literal": {"engine": "huggingface", "precision": "autocast", "grad_mode": "inference"},
    "notebook, no_grad": {"engine": "huggingface", "precision": "autocast", "grad_mode": "no_grad"},
    "half": {"engine": "huggingface", "precision": "half", "grad_mode": "no_grad"},
    "half, reorder fix": {"engine": "huggingface", "precision": "half", "grad_mode": "no_grad", "reorder_fix": True},
    "kernl": {"engine": "kernl"},
    "kernl, autocast": {"engine": "kernl", "kernl": "autocast"},
    "optimize_model(model)": {"engine": "optimize_model(model)"},
    "compiled": {"engine": "compiled"},
    **{RUNG + rung: {"engine": RUNG + rung} for rung in LADDER},
    "fused": {"engine": "fused"},
    "fused, triton": {"engine": "fused", "layers": "triton"},
    "fused_int8": {"engine": "fused_int8"},
    "fused_fp8": {"engine": "fused_fp8"},
}
BEFORE = " (before)"
FORMATS = ("fused_int8", "fused_fp8")

# What an engine says once its samples are taken.
AFTERWARDS = ("gpu_busy_ms", "encoder_ms", "prompt_ms", "step_ms", "reserved_gib", "bandwidth_gb_s", "floor_ms")


def main() -> None:
    """Parent: start the engines, run the rounds, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=[*ENGINES, "ladder"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try the script, unpublished")
    parser.add_argument(
        "--together", action="store_true", help="start all engines at once: their warm-up times say little"
    )
    parser.add_argument("--deadline", type=float, default=1e9, help="seconds; an engine not ready by then is left out")
    parser.add_argument(
        "--no-profile", action="store_true", help="leave out GPU-busy time, which takes seconds an engine"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--before", type=Path, help="another checkout, whose engines take part as `NAME (before)`")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    from record import record

    from whisper_speedup.measure.environment import fingerprint

    rungs = [name for name in ENGINES if name.startswith(RUNG)]
    chosen = dict.fromkeys(one for name in arguments.engines for one in (rungs if name == "ladder" else [name]))
    if arguments.before:
        chosen = dict.fromkeys(one for name in chosen for one in (name, name + BEFORE))
    rows, workers, waiting = [], {}, {}
    begun = time.monotonic()

    def start(name: str) -> None:
        root = arguments.before if name.endswith(BEFORE) else Path(__file__).parents[1]
        said = [f"--{key}={getattr(arguments, key)}" for key in ("size", "beams", "tokens", "device")]
        command = [sys.executable, str(root / "benchmarks/latency.py"), *said, "--child", name.removesuffix(BEFORE)]
        if arguments.no_profile:
            command.append("--no-profile")
        path = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
        waiting[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    for name in chosen if arguments.together else []:
        start(name)
    left_out = []
    for name in chosen:
        if not arguments.together:
            start(name)
        worker = waiting[name]
        left = max(0.0, arguments.deadline - (time.monotonic() - begun))
        if not select.select([worker.stdout], [], [], left)[0]:
            worker.kill()
            left_out.append(name)
            print(f"{name}: not ready after {arguments.deadline:.0f} s, left out", file=sys.stderr, flush=True)
            continue
        ready = _answer(worker, name)
        print(f"{name}: ready in {ready['warmup_s']:.1f} s", file=sys.stderr, flush=True)
        workers[name] = (worker, ready, [])
    for _ in range(arguments.rounds):
        for name, (worker, _, samples) in workers.items():
            samples.append(_ask(worker, name, "utterance"))
    for name, (worker, ready, samples) in workers.items():
        try:
            last = _ask(worker, name, "end")
        except SystemExit as ended:  # its samples are taken, whatever it wanted to say yet
            last = {**dict.fromkeys(AFTERWARDS), "last_tokens": [], "failed_at_the_end": str(ended)}
        times, cpu = ([sample[key] for sample in samples] for key in ("ms", "cpu_ms"))
        medians = {"utterance_ms": statistics.median(times), "host_cpu_ms": statistics.median(cpu)}
        rows.append({**ready, "engine": name, **last, **medians, "samples_ms": times, "host_cpu_samples_ms": cpu})
    # Weights made on a CPU are the same for all, as the features are: other tokens are another rounding, or a bug.
    whole = next((row["last_tokens"] for row in rows if row["engine"] == "fused"), None)
    for row in rows:
        tokens = row.pop("last_tokens")
        comparable = bool(whole) and bool(tokens) and row["made_on"] == "cpu"
        row["tokens_unlike_fused"] = sum(a != b for a, b in zip(tokens, whole, strict=True)) if comparable else None
    bandwidth = next((row["bandwidth_gb_s"] for row in rows if row.get("bandwidth_gb_s")), None)
    reference = next((r["utterance_ms"] for r in rows if r["engine"] == "notebook, no_grad"), None)
    for row in rows:
        row["speedup"] = reference / row["utterance_ms"] if reference else None
        # The part of an utterance in which the GPU has nothing to do: it waits for Python.
        busy = row["gpu_busy_ms"]
        row["host_share"] = None if busy is None else 1 - busy / row["utterance_ms"]
        row["rounds"] = arguments.rounds
    # Asked without a CUDA context of this process's own.
    label = fingerprint()["gpus"][0]["name"].replace(" ", "-") if arguments.device == "cuda" else "cpu"
    path = record("latency", label, arguments.out, copy_bandwidth_gb_s=bandwidth, rows=rows, left_out=left_out)
    for row in rows:
        print(line(row))
    print(path)


def line(row: dict[str, Any]) -> str:
    """A row in words; what a CPU does not tell is left out."""
    text = f"{row['engine']:29} {row['utterance_ms']:9.1f} ms  x{row['speedup'] or 0:6.2f}"
    text += f"  host CPU {row['host_cpu_ms']:7.1f} ms"
    if row["gpu_busy_ms"] is not None:
        text += f"  GPU busy {row['gpu_busy_ms']:8.1f} ms  host {row['host_share']:.0%}"
    if row["floor_ms"] is not None:
        text += (
            f"  encoder {row['encoder_ms']}  step {row['step_ms']}  floor {row['floor_ms']:.3f}"
            f"  {row['reserved_gib']:.2f} GiB"
        )
    return f"{text}  warm-up {row['warmup_s']:.1f} s"


def _answer(worker: Any, name: str) -> dict[str, Any]:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended with exit code {worker.wait()}")
    return json.loads(line)


def _ask(worker: Any, name: str, what: str) -> dict[str, Any]:
    worker.stdin.write(what + "\n")
    return _answer(worker, name)


def child(arguments: argparse.Namespace) -> None:
    """One engine: make the weights, warm up, then decode whenever a line comes in."""
    import torch
    from settings import generation_params, measure_params
    from whole_model import WholeModel

    from whisper_speedup.checkpoints import synthetic
    from whisper_speedup.engines.create import create
    from whisper_speedup.measure.bandwidth import copy_bandwidth
    from whisper_speedup.measure.clock import synchronize
    from whisper_speedup.measure.floor import step_bytes

    torch.manual_seed(0)
    chosen = dict(ENGINES[arguments.child])
    engine_name = chosen.pop("engine")
    device = torch.device(arguments.device)
    if device.type == "cpu":  # which knows fp32 alone
        chosen |= {key: "float32" for key in ("precision", "kernl") if key in chosen}
    measure = measure_params(device.type, tune="auto", ladder=LADDER, **chosen)
    generation = generation_params(arguments.beams, arguments.tokens, min_length=448)
    precision = measure.of(engine_name).precision if engine_name in ("huggingface", "kernl") else None
    half = device.type == "cuda" and precision in (None, "auto", "half")
    if engine_name.startswith(RUNG) and "packed_weights" not in LADDER[engine_name.removeprefix(RUNG)]:
        half = False  # fp32 weights under autocast
    ours = engine_name in ("fused", *FORMATS) or engine_name.startswith(RUNG)
    made_on = torch.device("cpu") if ours else device
    begin = time.perf_counter()
    model = synthetic.make(arguments.size, 0, made_on, torch.float16 if half else torch.float32)
    made_s = time.perf_counter() - begin
    engine: Any = WholeModel() if engine_name == "optimize_model(model)" else create(engine_name, measure)
    begin = time.perf_counter()
    engine.use(model, generation, device)
    mels, frames = model.config.num_mel_bins, 2 * model.config.max_source_positions
    floor = step_bytes(model.config.to_dict(), bytes_per_weight=1 if engine_name in FORMATS else None)
    del model
    synchronize(device)
    load_s = time.perf_counter() - begin
    features = torch.randn(1, mels, frames, generator=torch.Generator().manual_seed(0)).to(device)
    begin = time.perf_counter()
    engine.warm_up(features)
    synchronize(device)
    warmup_s = time.perf_counter() - begin
    out = sys.stdout

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    say({
        "engine": arguments.child, "model": arguments.size, "trained": False, "beams": arguments.beams,
        "tokens": arguments.tokens, "settings": engine.settings, "made_s": made_s, "load_s": load_s,
        "warmup_s": warmup_s, "made_on": made_on.type,
    })  # fmt: skip
    tokens: list[int] = []
    for line in sys.stdin:
        if line.strip() == "end":
            break
        synchronize(device)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        tokens = engine.generate(features).tokens
        cpu_ms = (time.process_time() - begin_cpu) * 1e3  # of all threads; synchronising would keep a core busy
        synchronize(device)
        milliseconds = (time.perf_counter() - begin) * 1e3
        assert len(tokens) == arguments.tokens, f"{len(tokens)} tokens"
        say({"ms": milliseconds, "cpu_ms": cpu_ms})
    if device.type == "cpu":
        say({**dict.fromkeys(AFTERWARDS), "last_tokens": tokens})
        return
    reserved = torch.cuda.max_memory_reserved() / 2**30  # before the profiler and the bandwidth's own buffers
    bandwidth = copy_bandwidth(device)
    say({
        "gpu_busy_ms": None if arguments.no_profile else gpu_busy_ms(engine, features), **parts(engine, features),
        "reserved_gib": reserved, "bandwidth_gb_s": bandwidth / 1e9, "last_tokens": tokens,
        "floor_ms": floor / bandwidth * 1e3,
    })  # fmt: skip


def gpu_busy_ms(engine: Any, features: Any) -> float:
    """Time in which kernels or copies ran on the GPU in one utterance, from the profiler."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        engine.generate(features)
    ran = [event.time_range for event in profiled.events() if event.device_type == DeviceType.CUDA]
    return covered((one.start, one.end) for one in ran) / 1e3


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union: with dependent launch a kernel starts before the one ahead of it ends."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(intervals):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def parts(engine: Any, features: Any) -> dict[str, float | None]:
    """Encoder (with the cross-attention projection) and one step of the fused engine, from its graphs."""
    import torch

    graphs = getattr(getattr(engine, "model", None), "graphs", None)
    if not graphs or "step" not in graphs:  # none, or one a position (fused/graphed.py)
        return {"encoder_ms": None, "prompt_ms": None, "step_ms": None}
    times: dict[str, float | None] = {"encode": None}
    for name, count in (("encode", 10), ("prompt", 10), ("step", 45)):
        if name not in graphs:
            continue
        graphs["prompt"].replay()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            graphs[name].replay()
        end.record()
        end.synchronize()
        times[name] = begin.elapsed_time(end) / count
    return {"encoder_ms": times["encode"], "prompt_ms": times["prompt"], "step_ms": times["step"]}


if __name__ == "__main__":
    main()
