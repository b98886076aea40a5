"""Which launch configuration makes a whole step fastest: coordinate descent, each candidate timed as a graph.

    python benchmarks/step_times.py --size large-v2 --seconds 130 --write

A kernel that is fastest alone need not be so among its neighbours, so the step itself is timed: synthetic weights, 45
replays after a prompt. Starts from the GPU's committed configuration; `--write` keeps the best there. One JSON a run.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from whisper_speedup.checkpoints import synthetic
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.files import write_json
from whisper_speedup.fused.device_decoder import DeviceDecoder
from whisper_speedup.fused.device_weights import DeviceWeights, pack_device_weights
from whisper_speedup.fused.launch import FOLDER, LaunchConfig, Tile, load_launch_config
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.measure.bandwidth import copy_bandwidth
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params import GenerationParams

CANDIDATES: list[dict[str, Any]] = [
    {"fc2": Tile(32, 128, 4, 4), "fc2_splits": 4},
    {"fc2": Tile(16, 256, 2, 4), "fc2_splits": 2},
    {"fc2": Tile(32, 256, 4, 3), "fc2_splits": 4},
    {"fc2": Tile(16, 128, 2, 6), "fc2_splits": 2},
    {"fc2": Tile(64, 128, 4, 4), "fc2_splits": 8},
    {"pdl": 1},
    {"pdl": 5},
    {"pdl": 2},
    {"pdl": 6},
    {"out": Tile(16, 256, 2, 4)},
    {"out": Tile(16, 128, 2, 6)},
    {"out": Tile(16, 128, 2, 4), "out_splits": 2},
    {"out": Tile(32, 128, 4, 4), "out_splits": 4},
    {"qkv": Tile(32, 128, 4, 6)},
    {"qkv": Tile(32, 256, 4, 4)},
    {"qkv": Tile(16, 256, 2, 4)},
    {"qkv": Tile(16, 128, 2, 6)},
    {"fc1": Tile(32, 128, 2, 6)},
    {"fc1": Tile(16, 256, 2, 4)},
    {"fc1": Tile(32, 256, 4, 4)},
    {"fc1": Tile(64, 128, 4, 4)},
    {"query": Tile(8, 128, 1, 6)},
    {"query": Tile(16, 128, 2, 6)},
    {"query": Tile(8, 256, 2, 4)},
    {"cross_stages": 2},
    {"cross_stages": 4},
    {"cross_block": 64, "cross_stages": 4},
    {"cross_shares": 12, "cross_block": 128},
    {"cross_shares": 4, "cross_block": 128},
    {"cross_warps": 8},
    {"vocabulary": Tile(128, 128, 4, 3)},
    {"vocabulary": Tile(256, 64, 8, 3)},
    {"update_warps": 8},
    {"update_warps": 32},
    {"self_warps": 1},
]


def main() -> None:
    """Search, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=130)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--write", action="store_true", help="keep the best configuration for the engine")
    arguments = parser.parse_args()
    weights, settings = build(arguments.size, arguments.beams)
    width = weights.embedding.shape[1]
    gpu = torch.cuda.get_device_name()
    bandwidth = copy_bandwidth(torch.device("cuda"))
    best = load_launch_config(gpu, width)
    best_ms = step_ms(weights, settings, best)
    rows = [{"change": {}, "step_ms": best_ms, "kept": True}]
    print(f"start {best_ms:.4f} ms", flush=True)
    for change in candidates(arguments.seconds):
        config = replace(best, **change)
        try:
            milliseconds = step_ms(weights, settings, config)
        except Exception as error:  # a tile that needs more shared memory than there is, or that Triton refuses
            print(f"{change}: {type(error).__name__}", flush=True)
            continue
        kept = milliseconds < 0.997 * best_ms
        rows.append({"change": {k: _plain(v) for k, v in change.items()}, "step_ms": milliseconds, "kept": kept})
        print(f"{milliseconds:.4f} ms {'kept' if kept else '    '} {change}", flush=True)
        if kept:
            best, best_ms = config, milliseconds
    again = step_ms(weights, settings, best)
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    path = arguments.out / f"steps-{now:%Y%m%d-%H%M%S}-{gpu.replace(' ', '-')}.json"
    chosen = {key: value for key, value in asdict(best).items() if key != "source"}
    write_json(
        path,
        {
            "kind": "steps", "date": now.isoformat(timespec="seconds"), "commit": commit or None,
            "environment": fingerprint(), "command": " ".join(["python", *sys.argv]), "size": arguments.size,
            "beams": arguments.beams, "copy_bandwidth_gb_s": bandwidth / 1e9, "best_ms": best_ms,
            "best_again_ms": again, "best": chosen, "rows": rows,
        },
    )  # fmt: skip
    if arguments.write:
        target = FOLDER / f"{gpu.replace(' ', '-')}.json"
        known = json.loads(target.read_text()) if target.is_file() else {}
        write_json(target, {**known, str(width): chosen})
    print(f"best {best_ms:.4f} ms, again {again:.4f} ms: {chosen}")
    print(path)


def candidates(seconds: float) -> Iterator[dict[str, Any]]:
    """The changes to try, while there is time."""
    deadline = time.monotonic() + seconds
    for change in CANDIDATES:
        if time.monotonic() > deadline:
            print("out of time", flush=True)
            return
        yield change


def build(size: Any, beams: int) -> tuple[DeviceWeights, DecodingSettings]:
    """Synthetic weights packed on the GPU, and the notebook's settings with end-of-text forbidden."""
    quiet_transformers()
    device = torch.device("cuda")
    model = synthetic.make(size, 0, device, torch.float16)
    generation = GenerationParams(
        num_beams=beams, max_length=50, min_length=448, length_penalty=1.0, early_stopping=False, language="en",
        task="transcribe",
    )  # fmt: skip
    given = generate_arguments(generation, model.generation_config)
    return pack_device_weights(model, device, torch.float16), decoding_settings(
        model, given, prompt_tokens(model, given)
    )


@torch.inference_mode()
def step_ms(weights: DeviceWeights, settings: DecodingSettings, launch: LaunchConfig) -> float:
    """Milliseconds of one step, the median of 5 rounds of 45 graph replays."""
    limit = settings.max_total(0)
    decoder = DeviceDecoder(weights, settings, 1500, limit, launch)
    decoder.cross.normal_()
    prompt = torch.tensor(settings.prompt, dtype=torch.int32, device="cuda")

    def start() -> None:
        decoder.prompt(prompt, limit, settings.min_length)

    def step() -> None:
        decoder.step(len(settings.prompt), limit, settings.min_length)

    start()
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    samples = []
    for _ in range(5):
        start()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(45):
            graph.replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) / 45)
    return sorted(samples)[2]


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Tile) else value


if __name__ == "__main__":
    main()
