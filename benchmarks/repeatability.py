"""The whole measurement again and again on one machine: does each run's speedup lie in the others' intervals?

    python benchmarks/repeatability.py --profile bundled --runs 2

Each run is the pipeline's own: baseline, engines and rounds, in processes of their own, then `compare` into a temporary
folder. The data and model stages must have run (make reproduce); build/PROFILE's runs are replaced, reports/ is left
alone. `--lock FILE` holds a lock while a run measures, where several people share a machine.

Two honest runs do not always pass: the interval over rounds is where another run is to be expected 95 times of 100, and
the one over utterances answers for other utterances, not for passes over the whole set minutes apart.
"""

import argparse
import fcntl
import itertools
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from record import ROOT, device_label, record

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json
from whisper_speedup.measure import device as devices
from whisper_speedup.params.profile import BASELINE, load_params, load_profile

KINDS = {"over utterances": "speedup", "over rounds": "speedup_rounds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="bundled")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--lock", type=Path, help="a file to hold a lock on while a run measures")
    parser.add_argument("--note", help="what else the machine did meanwhile")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    asked = parser.parse_args()
    params = load_params()
    rows = [measure(asked.profile, params.engines, asked.lock) for _ in range(asked.runs)]
    pairs = {engine: {name: inside(rows, engine, key) for name, key in KINDS.items()} for engine in params.engines}
    for engine, found in pairs.items():
        for name, counts in found.items():
            print(f"{engine}, {name}: {counts['inside']} of {counts['of']} estimates in another run's interval")
    device = devices.resolve(load_profile(asked.profile).measure.device)
    label = device_label(device) if torch.cuda.is_available() else "cpu"
    print(
        record("repeatability", label, asked.results, profile=asked.profile, rows=rows, inside=pairs, note=asked.note)
    )


def measure(profile_name: str, engines: list[str], lock: Path | None) -> dict[str, Any]:
    """One run of the pipeline's measuring stages, and what `compare` makes of it."""
    with held(lock):
        for engine in (BASELINE, *engines):
            stage("decode", "--engine", engine, "--profile", profile_name)
        stage("rounds", "--profile", profile_name)
    with tempfile.TemporaryDirectory() as folder:
        written = compare(load_profile(profile_name), profile_name, load_params(), reports=Path(folder))
        metrics, context = read_json(written / "metrics.json"), read_json(written / "context.json")
    keys = [f"{key}{end}" for key in KINDS.values() for end in ("", "_low", "_high")]
    return {
        "started": context["runs"][BASELINE]["started"],
        "engines": {
            engine: {
                **{key: metrics[f"{engine}.{key}"] for key in keys},
                "rounds": context["comparisons"][engine]["rounds"],
                "total_s": metrics[f"{engine}.total_s"],
                "baseline_total_s": metrics[f"{BASELINE}.total_s"],
            }
            for engine in engines
        },
        "others_cores": {
            engine: {
                "whole_set": context["runs"][engine]["conditions"]["during"]["others_cores"],
                "rounds": context["rounds"]["engines"][engine]["conditions"]["others_cores"],
            }
            for engine in (BASELINE, *engines)
        },
        "warnings": context["warnings"],
    }


def inside(rows: list[dict[str, Any]], engine: str, key: str) -> dict[str, int]:
    """Of all ordered pairs of runs, in how many the one's speedup lies in the other's interval."""
    pairs = list(itertools.permutations([row["engines"][engine] for row in rows], 2))
    return {"inside": sum(b[f"{key}_low"] <= a[key] <= b[f"{key}_high"] for a, b in pairs), "of": len(pairs)}


def stage(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "whisper_speedup", *arguments], check=True, cwd=ROOT)


@contextmanager
def held(lock: Path | None):
    """Hold the lock of that file while inside; nothing to hold without one."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
