"""A decode step of each published size against the floor of its bytes: one launch or the chain; one JSON a run.

    python benchmarks/steps_by_size.py --sizes tiny.en base small medium large-v2 large-v3 large-v3-turbo --beams 1 5

Synthetic weights on the GPU, random encoder states, end-of-text forbidden. A step is replayed as a CUDA graph, 45 times
after a prompt, five rounds, the median. The floor is the step's bytes over the bandwidth of a large copy in this run.
"""

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params

from whisper_speedup.checkpoints import synthetic
from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.engines.huggingface import generate_arguments, quiet_transformers
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_decoder import DeviceDecoder
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.launch import load_launch_config
from whisper_speedup.fused.one_launch import NoOneLaunch, OneLaunch, make_one_launch
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.measure.bandwidth import copy_bandwidth
from whisper_speedup.measure.floor import step_bytes

SIZES = ["tiny.en", "base", "small", "medium", "large-v2", "large-v3", "large-v3-turbo"]


def main() -> None:
    """Time, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=list(synthetic.SIZES))
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--layers", nargs="+", default=["persistent", "triton"], choices=["persistent", "triton"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    quiet_transformers()
    device = torch.device("cuda", 0)
    bandwidth = copy_bandwidth(device)
    rows = []
    for size in arguments.sizes:
        model = synthetic.make(size, 0, device, torch.float16)
        for layers in arguments.layers:
            for row in timed(model, arguments.beams, layers, device):
                row["floor_ms"] = step_bytes(model.config.to_dict()) / bandwidth * 1e3
                rows.append({"size": size, "layers": layers, **row})
                print(line(rows[-1]), flush=True)
        del model
        torch.cuda.empty_cache()
    print(record("sizes", device_label(device), arguments.out, copy_bandwidth_gb_s=bandwidth / 1e9, rows=rows))


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    name = f"{row['size']:15} {row['layers']:10} {row['beams']} beams"
    if row["step_ms"] is None:
        return f"{name}  none: {row['why']}"
    return f"{name}  step {row['step_ms']:.4f} ms  floor {row['floor_ms']:.4f}  {row['floor_ms'] / row['step_ms']:.0%}"


MADE: dict[tuple[int, int], OneLaunch | NoOneLaunch] = {}  # by width and rows: sizes of one width share it


def one_launch_of(model: Any, settings: DecodingSettings, device: torch.device) -> OneLaunch | NoOneLaunch:
    """The launch, or why there is none."""
    key = (model.config.d_model, max(settings.num_beams, len(settings.prompt)))
    if key not in MADE:
        torch.cuda.set_device(device)  # a thread of its own begins without one
        try:
            MADE[key] = make_one_launch(model.config, settings, device, torch.float16)
        except NoOneLaunch as why:
            MADE[key] = why
    return MADE[key]


@torch.inference_mode()
def timed(model: Any, all_beams: list[int], layers: str, device: torch.device) -> list[dict[str, Any]]:
    """A row for each number of beams."""
    rows = []
    launch = load_launch_config(torch.cuda.get_device_name(), model.config.d_model)
    given = [settings_of(model, beams) for beams in all_beams]
    if layers == "persistent":  # compiled side by side
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda settings: one_launch_of(model, settings, device), given))
    weights = pack_device_weights(model, device, torch.float16) if layers == "triton" else None
    for settings in given:
        row: dict[str, Any] = {"beams": settings.num_beams, "step_ms": None, "prompt_ms": None, "why": None}
        rows.append(row)
        if layers == "persistent":
            one = one_launch_of(model, settings, device)
            if isinstance(one, NoOneLaunch):
                row["why"] = str(one)
                continue
            weights = None  # before its successor is made
            weights = pack_device_weights(model, device, torch.float16, one)
            row["shared_bytes"], row["ring"] = one.plan.shared_bytes, one.plan.ring
        assert weights is not None
        decoder = DeviceDecoder(
            weights, settings, model.config.max_source_positions, settings.max_total(0), launch
        )  # fmt: skip
        decoder.project(torch.randn(model.config.max_source_positions, model.config.d_model, device=device).half())
        graphs = graphs_of(decoder)
        samples = {name: [replay_ms(graphs, name) for _ in range(5)] for name in graphs}
        row["samples_ms"] = samples["step"]
        row["step_ms"], row["prompt_ms"] = (statistics.median(samples[name]) for name in ("step", "prompt"))
    return rows


def settings_of(model: Any, beams: int) -> DecodingSettings:
    given = generate_arguments(generation_params(beams), model.generation_config)
    return decoding_settings(model, given, prompt_tokens(model, given))


def graphs_of(decoder: DeviceDecoder) -> dict[str, torch.cuda.CUDAGraph]:
    """The prompt and a step that never ends a text."""
    settings = decoder.settings
    limit = settings.max_total(0)
    prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=decoder.keys.device)
    return {
        "prompt": graph_of(lambda: decoder.prompt(prompt, limit, settings.max_positions)),
        "step": graph_of(lambda: decoder.step(len(settings.prompt), limit, settings.max_positions)),
    }


def graph_of(work: Any) -> torch.cuda.CUDAGraph:
    """What `work` launches, captured after two runs of it."""
    return capture(torch.device("cuda"), {"work": work})["work"]


def replay_ms(graphs: dict[str, torch.cuda.CUDAGraph], name: str, count: int = 45) -> float:
    """Milliseconds of one replay, over `count` of them behind a prompt."""
    graphs["prompt"].replay()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(count):
        graphs[name].replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / count


if __name__ == "__main__":
    main()
