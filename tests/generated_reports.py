"""reports/PROFILE as `compare` leaves it, from generated runs: with verdicts, recordings and what runs may report."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.compare.evidence import CAP_BYTES, _base64, _mp3
from whisper_speedup.compare.log_mel import picture
from whisper_speedup.compare.verdict import verdict
from whisper_speedup.disk.files import read_json, read_jsonl, write_json, write_jsonl

FLOOR = {"bytes": 1853562880, "bandwidth_bytes_s": 3.0e12, "seconds": 1853562880 / 3.0e12}


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """Samples (n,) at 16 kHz that sound like nobody but take as many bytes as speech: bursts of harmonics and noise."""
    chance = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    pitch = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time)) / 16000
    voice = sum(np.sin(k * pitch) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time) + 0.3, 0, None)
    return (0.1 * syllables * voice + 0.01 * chance.standard_normal(len(time))).astype(np.float32)


def judge(folder: Path, audio: bool = True) -> None:
    """Give the differences in `folder` verdicts (every fourth worse) and recordings, and count them."""
    rows = read_jsonl(folder / "differences.jsonl")
    evidence: list[dict[str, Any]] = []
    left = CAP_BYTES
    for number, row in enumerate(rows):
        gap = (-1) ** number * (0.031 if number % 4 == 3 else 0.0021 + number / 1e5)
        row |= {
            "reference_scores": {"baseline": -0.21, row["engine"]: -0.21 + gap}, "gap": gap, "epsilon": 2**-6,
            "verdict": verdict(gap, 2**-6), "not_judged": None,
            "fork": {
                "baseline": {"token": 1, "text": " stew", "probability": 0.412},
                row["engine"]: {"token": 2, "text": " supper", "probability": 0.409},
            },
        }  # fmt: skip
        if audio:
            samples = speech_like(row["duration_s"], number)
            made = {"audio": _base64(_mp3(samples)), "log_mel": _base64(picture(samples))}
            size = sum(map(len, made.values()))
            fits = size <= left
            left -= size if fits else 0
            why = None if fits else "the page's 3 MB for recordings are used up"
            evidence.append({"id": row["id"], "left_out": why, **(made if fits else dict.fromkeys(made))})
    write_jsonl(folder / "differences.jsonl", rows)
    write_jsonl(folder / "evidence.jsonl", evidence)
    metrics = read_json(folder / "metrics.json")
    found = [row["verdict"] for row in rows]
    ties, better, worse = (found.count(name) for name in ("rounding tie", "better", "worse"))
    context = read_json(folder / "context.json")
    about = {"judged": len(rows), "ties": ties, "better": better, "worse": worse, "not_judged": 0, "reason": None}
    write_json(folder / "context.json", context | {"rescoring": about | {"device": "cpu"}})
    counts = {"fused.rounding_ties": ties, "fused.better": better, "fused.worse": worse, "fused.not_judged": 0}
    write_json(folder / "metrics.json", metrics | counts)


def report_everything(folder: Path) -> None:
    """Let the runs report what an engine may report: its steps, where its time goes."""
    context = read_json(folder / "context.json")
    for engine, run in context["runs"].items():
        run["step_floor"] = FLOOR
        whole = read_json(folder / "metrics.json")[f"{engine}.total_s"]
        parts = {"encoder_s": 0.3, "prefill_s": 0.05, "steps_s": 0.55, "host_s": 0.1}
        run["breakdown"] = {**{key: whole * share for key, share in parts.items()}, "step_s": 0.0021}
    write_json(folder / "context.json", context)


def big(root: Path, name: str = "example") -> Path:
    """reports/NAME of 2620 utterances on a GPU, 40 of them differing and judged; run from `root`."""
    made = generate(2620, cuda=True, differing=40)
    made.model["name"] = "openai/whisper-large-v2"
    made.model["parameters"] = 1543304960
    for about in made.about.values():
        peak = about["memory"]["max_reserved"] * 2
        about["memory"] |= {"max_reserved": peak, "max_allocated": int(peak * 0.9), "allocated": int(3.3 * 2**30)}
    made.write(root, name)
    folder = compare(profile(title="Whisper large-v2 on 2620 made-up utterances"), name, params())
    judge(folder)
    report_everything(folder)
    return folder


def decoded(text: str) -> bytes:
    return base64.b64decode(text)
