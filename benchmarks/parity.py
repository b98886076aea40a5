"""Does an engine give the same token ids as transformers? Real weights, real speech, one JSON a run.

    python benchmarks/parity.py --models build/models/bundled-tiny.en --clips samples --beams 1 2 5

A row of the result compares `engine` with `reference` on every clip of every folder given; `differ` lists the clips
whose token ids are not equal.
"""

import argparse
import gc
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm
from transformers import WhisperFeatureExtractor

from whisper_speedup.engines.create import create
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
        compare(model, beams, arguments.max_length, clips, device)
        for model in arguments.models
        for beams in arguments.beams
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
    print(json.dumps([{**row, "differ": len(row["differ"])} for row in rows], indent=1))
    print(path)


def compare(model: Path, beams: int, max_length: int, clips: list[Path], device: torch.device) -> dict[str, Any]:
    """One row: fused against huggingface in fp32 on `clips`."""
    generation = GenerationParams(
        num_beams=beams, max_length=max_length, min_length=1, length_penalty=1.0, early_stopping=False,
        language="en", task="transcribe",
    )  # fmt: skip
    measure = MeasureParams.model_validate(
        {
            "device": device.type, "threads": None, "warmup": 1, "repeats": 1,
            "baseline": {"precision": "float32", "grad_mode": "no_grad", "attention": "sdpa", "reorder_fix": False},
            "fused": {"precision": "auto"},
        }
    )  # fmt: skip
    extractor = WhisperFeatureExtractor.from_pretrained(model)
    tokens: dict[str, list[list[int]]] = {}
    for name in ("huggingface", "fused"):
        engine = create(name, measure)
        engine.load(model, generation, device)
        tokens[name] = [
            engine.generate(features(clip, extractor).to(device)).tokens
            for clip in tqdm(clips, desc=f"{model.name}, {beams} beams, {name}", disable=None)
        ]
        engine.close()
        gc.collect()
    pairs = zip(clips, tokens["huggingface"], tokens["fused"], strict=True)
    differ = [{"clip": clip.stem, "reference": one, "engine": two} for clip, one, two in pairs if one != two]
    return {
        "engine": "fused",
        "reference": "huggingface, fp32",
        "model": model.name,
        "beams": beams,
        "clips": len(clips),
        "tokens": sum(len(ids) for ids in tokens["huggingface"]),
        "differ": differ,
    }


def features(clip: Path, extractor: WhisperFeatureExtractor) -> torch.Tensor:
    """Log-mel features (1, mels, 3000) of a 16 kHz file."""
    audio, rate = soundfile.read(clip, dtype="float32")
    return extractor(audio, sampling_rate=rate, return_tensors="pt").input_features


if __name__ == "__main__":
    main()
