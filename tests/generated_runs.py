"""A profile's folder as the stages before `compare` leave it, made up from a seed: manifest, model.json and runs.

A test changes the rows it is about and leaves the rest; nothing here needs a model or audio.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_speedup.checkpoints.identity import Checkpoint
from whisper_speedup.compare.runs import Run
from whisper_speedup.disk.files import sha256, write_json, write_jsonl
from whisper_speedup.params.profile import BASELINE, Params, Profile, complete
from whisper_speedup.run.rows import Result, RunRecord

GIB = 2**30
SENTENCE = (
    "he hoped there would be stew for dinner turnips and carrots bruised potatoes fat mutton pieces to ladled out in"
    " thick peppered flour sauce stuffed into you his belly counselled him after early nightfall the yellow lamps light"
    " up here squalid quarter of brothels number ten fresh nelly is waiting on good night husband music came nearer"
)
WORDS = SENTENCE.split()
SPELLINGS = {"colour": "color", "archaeology</span>": "archeology</span>", "theatre": "theater"}
ENVIRONMENT = {
    "cpu": "Example CPU 3000",
    "cpu_capability": "AVX2",
    "cpu_cores": 2,
    "cuda": None,
    "driver": None,
    "gpus": [],
    "machine": "x86_64",
    "numpy": "2.3.5",
    "python": "3.11.2",
    "system": "Linux",
    "torch": "2.13.0+cpu",
    "transformers": "5.17.0",
    "triton": None,
}
GPU = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "memory_bytes": 80 * GIB, "multiprocessors": 132}
GPU_ENVIRONMENT = ENVIRONMENT | {
    "cuda": "13.0",
    "driver": "580.1",
    "gpus": [GPU],
    "torch": "2.13.0+cu130",
    "triton": "3.9.0",
}
READING = {
    "cpu_mhz": 2900,
    "load_1min": 1.1,
    "sm_mhz": None,
    "memory_mhz": None,
    "power_w": None,
    "temperature_c": None,
    "throttling": None,
}
GPU_READING = READING | {
    "sm_mhz": 1980,
    "memory_mhz": 2619,
    "power_w": 312.5,
    "temperature_c": 51,
    "throttling": [],
}


def profile(**report: Any) -> Profile:
    """The bundled profile, complete."""
    content = {
        "data": {"source": "samples"},
        "model": {"source": "bundled", "name": "tiny.en"},
        "measure": {"rounds": {"starts": 1, "count": 5}},
        "report": {"title": "Whisper tiny.en on made-up recordings"} | report,
    }
    return complete(Profile.model_validate(content))


def params() -> Params:
    return Params(profile="example", engines=["fused"])


@dataclass
class GeneratedRuns:
    """Everything a profile's build folder holds, still to be written. Lists are in the manifest's order."""

    manifest: list[dict[str, Any]]
    model: dict[str, Any]
    results: dict[str, list[dict[str, Any]]]
    about: dict[str, dict[str, Any]]
    spellings: dict[str, str] | None = field(default_factory=lambda: dict(SPELLINGS))

    def say(self, engine: str, number: int, text: str) -> None:
        """Let `engine` give `text` (and so another token) for utterance `number`."""
        row = self.results[engine][number]
        row["text"] = row["raw_text"] = text
        row["tokens"] = [*row["tokens"][:-1], row["tokens"][-1] + 1]

    def fail(self, engine: str, number: int, why: str) -> None:
        """Let `engine` give no output for utterance `number`."""
        row = self.results[engine][number]
        row.update(tokens=None, text=None, raw_text=None, score=None, seconds=None, truncated=None, error=why)

    def run(self, engine: str) -> Run:
        """As `compare` reads it."""
        hashes = dict.fromkeys(("data_sha256", "weights_sha256", "model_sha256", "results_sha256"), "0" * 64)
        about = RunRecord.model_validate({"profile": "example"} | hashes | self.about[engine])
        return Run(engine, about, [Result.model_validate(row) for row in self.results[engine]])

    def write(self, root: Path, name: str = "example") -> Path:
        """Write root/build/NAME, with the hashes that belong to it; returns root/build. Paths are relative to root."""
        build = root / "build" / name
        write_jsonl(build / "data" / "manifest.jsonl", self.manifest)
        write_json(build / "model.json", self.model)
        (root / self.model["path"]).mkdir(parents=True, exist_ok=True)
        if self.spellings is not None:
            write_json(root / self.model["path"] / "normalizer.json", self.spellings)
        for engine, rows in self.results.items():
            about = {
                "profile": name,
                "data_sha256": sha256(build / "data" / "manifest.jsonl"),
                "weights_sha256": Checkpoint.model_validate(self.model).weights_sha256,
                "model_sha256": Checkpoint.model_validate(self.model).model_sha256,
            } | self.about[engine]
            write_jsonl(build / "runs" / engine / "results.jsonl", rows)
            about = {"results_sha256": sha256(build / "runs" / engine / "results.jsonl")} | about
            write_json(build / "runs" / engine / "run.json", about)
        return root / "build"


def generate(count: int = 13, seed: int = 0, cuda: bool = False, differing: int = 0) -> GeneratedRuns:
    """`count` utterances, fused about 2.9 times as fast as the baseline, the first `differing` texts not the same."""
    chance = random.Random(seed)
    manifest, baseline, fused = [], [], []
    for number in range(count):
        spoken = [chance.choice(WORDS) for _ in range(chance.randint(4, 34))]
        heard = [word if chance.random() > 0.03 else chance.choice(WORDS) for word in spoken]
        duration_s = round(len(spoken) / 2.6 + chance.random(), 3)
        manifest.append(
            {
                "id": f"1089-134686-{number:04d}",
                "audio": f"audio/{number:04d}.flac",
                "sha256": f"{number:064x}",
                "duration_s": duration_s,
                "sampling_rate": 16000,
                "reference": " ".join(spoken).upper(),
                "speaker": "1089",
                "cut_from_s": None,
                "error": None,
            }
        )
        tokens = [chance.randint(200, 50000) for _ in range(len(heard) + 3)]
        slow = (0.020 if cuda else 0.045) * len(tokens) * chance.uniform(0.9, 1.15)
        text = " ".join(heard)
        row = {
            "id": manifest[-1]["id"],
            "tokens": tokens,
            "text": text,
            "raw_text": f" {text.capitalize()}.",
            "score": -0.1 - chance.random() / 4,
            "seconds": [slow],
            "truncated": False,
            "error": None,
        }
        baseline.append(row)
        fused.append({**row, "tokens": list(tokens), "seconds": [slow / chance.uniform(2.5, 3.4)]})
    device = {
        "device": "cuda" if cuda else "cpu",
        "device_name": "NVIDIA H100 80GB HBM3" if cuda else "Example CPU 3000",
    }
    runs = GeneratedRuns(
        manifest=manifest,
        model={
            "source": "bundled",
            "name": "whisper-tiny.en",
            "revision": None,
            "path": "build/models/tiny.en",
            "trained": True,
            "parameters": 37760640,
            "files": [
                {"name": "config.json", "bytes": 1944, "sha256": "c" * 64},
                {"name": "model.safetensors", "bytes": 151061672, "sha256": "f" * 64},
            ],
        },
        results={BASELINE: baseline, "fused": fused},
        about={
            engine: {
                "engine": engine,
                "settings": {"precision": "float16" if cuda else "float32"},
                "model": {"name": "whisper-tiny.en", "trained": True, "source": "bundled", "revision": None},
                **device,
                "dtype": "float16" if cuda else "float32",
                "threads": 2,
                "load_s": 0.81,
                "warmup_s": warmup,
                "decode_s": 42.0,
                "resumed_from": None,
                "memory": {
                    "allocated": int(2.1 * GIB) if cuda else None,
                    "reserved": int(3.0 * GIB) if cuda else None,
                    "max_allocated": int(peak * 2.4 * GIB) if cuda else None,
                    "max_reserved": int(peak * 3.1 * GIB) if cuda else None,
                    "process_peak": int(peak * 0.7 * GIB),
                },
                "environment": GPU_ENVIRONMENT if cuda else ENVIRONMENT,
                "started": "2026-11-23T05:00:00+00:00",
                "conditions": {when: dict(GPU_READING if cuda else READING) for when in ("before", "after")},
                "prompt": [50257, 50362],
            }
            for engine, warmup, peak in ((BASELINE, 1.9, 1.5), ("fused", 0.6, 1.0))
        },
    )
    for number in range(differing):
        words = baseline[number]["text"].split()
        words[-1] = "supper"
        runs.say("fused", number, " ".join(words))
    return runs
