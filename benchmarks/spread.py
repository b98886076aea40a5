"""How far does rounding move the score of one and the same hypothesis? What compare/verdict.py's limits rest on.

    python benchmarks/spread.py --profiles stress stress-base

Takes every hypothesis that the runs of a profile gave (build/PROFILE/runs and yardstick), and scores it in IEEE fp32
and in each other arithmetic, teacher-forced. A row has the largest and the root-mean-square difference of a score from
fp32's; `gap_largest` is the same for the difference of two hypotheses' scores, over all pairs of one utterance.
"""

import argparse
import itertools
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from tqdm import tqdm
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio import manifest
from whisper_speedup.audio.features import log_mel
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.params.profile import BASELINE, load_profile

# The dtype of the weights, and whether products run under fp16 autocast.
ARITHMETIC = {
    "float32": (torch.float32, False), "float64": (torch.float64, False), "half": (torch.float16, False),
    "autocast": (torch.float32, True), "bfloat16": (torch.bfloat16, False),
}  # fmt: skip
LIMITS = {"half": "float16", "autocast": "float16"}


def main() -> None:
    """Score everything and write benchmarks/results/spread-DATE-DEVICE.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", required=True, help="names in profiles/ whose runs are in --build")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [row for name in arguments.profiles for row in spread(name, arguments.build / name, device)]
    path = record("spread", device_label(device), arguments.out, rows=rows)
    for row in rows:
        print(f"{row['profile']:12} {row['arithmetic']:9} {row['hypotheses']} hypotheses: score off by"
              f" {row['largest']:.2e} at most, {row['rms']:.2e} rms; {row['pairs']} gaps by"
              f" {row['gap_largest']:.2e}")  # fmt: skip
    print(path)


def spread(name: str, build: Path, device: torch.device) -> list[dict[str, Any]]:
    """A row for each arithmetic other than fp32."""
    model_dir = checked_folder(build / "model.json")
    extractor = WhisperFeatureExtractor.from_pretrained(model_dir)
    prompt = read_json(build / "runs" / BASELINE / "run.json")["prompt"]
    penalty = load_profile(name).generation.length_penalty
    path = build / "data" / "manifest.jsonl"
    found = hypotheses(build)
    clips = [row for row in read_manifest(path) if row.id in found]
    features = {row.id: log_mel(manifest.load_audio(path, row), extractor) for row in clips}
    scores = {}
    for arithmetic, (dtype, autocast) in ARITHMETIC.items():
        judge = Judge(load(model_dir, device, dtype), prompt, penalty)
        mode = torch.autocast(device.type, dtype=torch.float16) if autocast else nullcontext()
        with mode:
            scores[arithmetic] = {
                row.id: [score.value for score in judge.score(features[row.id], found[row.id])]
                for row in tqdm(clips, desc=f"{name}, {arithmetic}", disable=None)
            }
        print(f"{name}, {arithmetic}", file=sys.stderr, flush=True)
    return [row(name, arithmetic, scores) for arithmetic in ARITHMETIC if arithmetic != "float32"]


def hypotheses(build: Path) -> dict[str, list[Hypothesis]]:
    """Each different hypothesis of each utterance, whoever gave it."""
    found: dict[str, dict[Any, Hypothesis]] = {}
    for path in sorted([*build.glob("runs/*/results.jsonl"), *build.glob("yardstick/*/results.jsonl")]):
        for row in read_jsonl(path):
            if row["error"] is None:
                one = Hypothesis(row["tokens"], not row["truncated"])
                found.setdefault(row["id"], {})[(*one.tokens, one.ended)] = one
    return {name: list(ones.values()) for name, ones in found.items()}


def row(profile: str, arithmetic: str, scores: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """How far `arithmetic` is from fp32, over all scores and over all gaps."""
    off, gaps = [], []
    for name, exact in scores["float32"].items():
        errors = [rounded - one for rounded, one in zip(scores[arithmetic][name], exact, strict=True)]
        off += errors
        gaps += [a - b for a, b in itertools.combinations(errors, 2)]
    return {
        "profile": profile, "arithmetic": arithmetic, "utterances": len(scores["float32"]), "hypotheses": len(off),
        "largest": max(map(abs, off)), "rms": math.sqrt(sum(e * e for e in off) / len(off)), "pairs": len(gaps),
        "gap_largest": max(map(abs, gaps), default=0.0), "limit": EPSILON[LIMITS.get(arithmetic, arithmetic)],
    }  # fmt: skip


if __name__ == "__main__":
    main()
