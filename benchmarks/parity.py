"""Does an engine give the same token ids as transformers? Real weights, real speech, one JSON a run.

    python benchmarks/parity.py --models build/models/bundled-tiny.en --clips samples --beams 1 2 5

A row of the result compares `engine` with `reference`, Hugging Face in fp32, on every clip of every folder given;
`differ` lists the clips whose token ids are not equal, with both hypotheses' scores under the reference model. On a GPU
Hugging Face's own half-precision variants are compared too: the yardstick for ours.
"""

import argparse
import gc
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm
from transformers import WhisperFeatureExtractor

from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.engines.create import create
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens
from whisper_speedup.files import write_json
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params import GenerationParams, MeasureParams


def main() -> None:
    """Run the comparison and write benchmarks/results/parity-DATE-DEVICE.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="Hugging Face folders")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 2, 5])
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = [clip for folder in arguments.clips for clip in sorted([*folder.glob("*.flac"), *folder.glob("*.wav")])]
    rows = [
        row
        for model in arguments.models
        for beams in arguments.beams
        for row in compare(model, beams, arguments.max_length, clips, device)
    ]
    name = torch.cuda.get_device_name().replace(" ", "-") if device.type == "cuda" else "cpu"
    now = datetime.now(UTC)
    path = arguments.out / f"parity-{now:%Y%m%d-%H%M%S}-{name}.json"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "kind": "parity",
        "date": now.isoformat(timespec="seconds"),
        "commit": commit or None,
        "environment": fingerprint(),
        "command": " ".join(["python", *sys.argv]),
        "rows": rows,
    }
    write_json(path, result)
    for row in rows:
        gaps = ", ".join(f"{entry['clip']} {entry['gap']:+.2e}" for entry in row["differ"])
        print(f"{row['model']:16} {row['beams']} beams  {row['engine']:28} differs in {len(row['differ'])} of"
              f" {row['clips']}, ties {row['ties']}  {gaps}")  # fmt: skip
    print(path)


# What is compared on each kind of device; the first is the reference.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {"huggingface fp32": {"engine": "huggingface", "precision": "float32"}, "fused": {"engine": "fused"}},
    "cuda": {
        "huggingface fp32": {"engine": "huggingface", "precision": "float32"},
        "huggingface autocast": {"engine": "huggingface", "precision": "autocast"},
        "huggingface autocast again": {"engine": "huggingface", "precision": "autocast"},
        "huggingface autocast eager": {"engine": "huggingface", "precision": "autocast", "attention": "eager"},
        "huggingface half": {"engine": "huggingface", "precision": "half"},
        "fused": {"engine": "fused"},
    },
}


def compare(model: Path, beams: int, max_length: int, clips: list[Path], device: torch.device) -> list[dict[str, Any]]:
    """One row for each engine but the reference; every differing clip with its scores under the reference model."""
    generation = GenerationParams(
        num_beams=beams, max_length=max_length, min_length=1, length_penalty=1.0, early_stopping=False,
        language="en", task="transcribe",
    )  # fmt: skip
    extractor = WhisperFeatureExtractor.from_pretrained(model)
    inputs = [features(clip, extractor).to(device) for clip in clips]
    variants = VARIANTS[device.type]
    outputs: dict[str, list[list[int]]] = {}
    for name, variant in variants.items():
        settings = {"precision": "auto", "grad_mode": "no_grad", "attention": "sdpa", "reorder_fix": False, **variant}
        engine_name = settings.pop("engine")
        measure = MeasureParams.model_validate(
            {"device": device.type, "threads": None, "warmup": 1, "repeats": 1,
             "baseline": settings, "fused": {"precision": "auto"}}
        )  # fmt: skip
        engine = create(engine_name, measure)
        engine.load(model, generation, device)
        engine.warm_up(inputs[0])
        label = f"{model.name}, {beams} beams, {name}"
        outputs[name] = [engine.generate(one).tokens for one in tqdm(inputs, desc=label, disable=None)]
        print(label, file=sys.stderr, flush=True)
        engine.close()
        gc.collect()
    reference_name, *others = variants
    reference = outputs[reference_name]
    exact = load(model, device)
    arguments = generate_arguments(generation, exact.generation_config)
    judge = Judge(exact, prompt_tokens(exact, arguments), generation.length_penalty)
    rows = []
    coarsest = "float16" if device.type == "cuda" else "float32"
    for name in others:
        differ = []
        for clip, one, expected, found in zip(clips, inputs, reference, outputs[name], strict=True):
            if expected != found:
                pair = [Hypothesis(tokens, len(tokens) < max_length) for tokens in (expected, found)]
                before, after = (scored.value for scored in judge.score(one, pair))
                differ.append(
                    {"clip": clip.stem, "reference": expected, "engine": found, "reference_score": before,
                     "engine_score": after, "gap": after - before}
                )  # fmt: skip
        rows.append(
            {
                "engine": name, "reference": reference_name, "model": model.name, "beams": beams, "clips": len(clips),
                "tokens": sum(len(tokens) for tokens in reference), "differ": differ,
                "ties": sum(abs(entry["gap"]) <= EPSILON[coarsest] for entry in differ),
            }
        )  # fmt: skip
    return rows


def features(clip: Path, extractor: WhisperFeatureExtractor) -> torch.Tensor:
    """Log-mel features (1, mels, 3000) of a 16 kHz file."""
    audio, rate = soundfile.read(clip, dtype="float32")
    return extractor(audio, sampling_rate=rate, return_tensors="pt").input_features


if __name__ == "__main__":
    main()
