"""Which launch configuration makes a whole step fastest: the engine's own search (fused/tuning.py), with more time.

    python benchmarks/step_times.py --size large-v2 --seconds 130 --write

Synthetic weights, 45 replays after a prompt for each candidate. Starts from the GPU's configuration in the repository
or the user's cache; `--write` keeps the best in the repository. One JSON a run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params

from whisper_speedup.checkpoints import synthetic
from whisper_speedup.disk.files import write_json
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.fused.device_weights import DeviceWeights, pack_device_weights
from whisper_speedup.fused.launch import FOLDER, load_launch_config
from whisper_speedup.fused.launch_cache import file_name
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.fused.tuning import StepTimer, plain_config, tune
from whisper_speedup.measure.bandwidth import copy_bandwidth


def main() -> None:
    """Search, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=130)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--write", action="store_true", help="keep the best configuration for the engine")
    arguments = parser.parse_args()
    weights, settings, source_positions = build(arguments.size, arguments.beams)
    width = weights.embedding.shape[1]
    gpu = torch.cuda.get_device_name()
    bandwidth = copy_bandwidth(torch.device("cuda"))
    tuned = tune(
        load_launch_config(gpu, width), StepTimer(weights, settings, source_positions), arguments.seconds,
        settle=torch.cuda.synchronize, say=lambda line: print(line, flush=True),
    )  # fmt: skip
    best = plain_config(tuned.config)
    path = record(
        "steps", device_label(torch.device("cuda")), arguments.out, size=arguments.size, beams=arguments.beams,
        copy_bandwidth_gb_s=bandwidth / 1e9, best_ms=tuned.step_ms, start_again_ms=tuned.start_ms, best=best,
        rows=tuned.rows,
    )  # fmt: skip
    if arguments.write:
        target = FOLDER / file_name(gpu)
        known = json.loads(target.read_text()) if target.is_file() else {}
        write_json(target, {**known, str(width): best})
    print(f"start {tuned.start_ms:.4f} ms, best {tuned.step_ms:.4f} ms: {best}")
    print(path)


def build(size: Any, beams: int) -> tuple[DeviceWeights, DecodingSettings, int]:
    """Synthetic weights packed on the GPU, the notebook's settings, and how many positions the encoder gives."""
    quiet_transformers()
    device = torch.device("cuda")
    model = synthetic.make(size, 0, device, torch.float16)
    generation = generation_params(beams)
    given = generate_arguments(generation, model.generation_config)
    settings = decoding_settings(model, given, prompt_tokens(model, given))
    return pack_device_weights(model, device, torch.float16), settings, model.config.max_source_positions


if __name__ == "__main__":
    main()
