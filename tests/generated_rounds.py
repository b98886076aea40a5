"""build/PROFILE/rounds as the stage `rounds` leaves it, with the seconds that a test chooses."""

import random
from pathlib import Path
from typing import Any

from generated_runs import GeneratedRuns

from whisper_speedup.checkpoints.identity import Checkpoint
from whisper_speedup.disk.files import sha256, write_json, write_jsonl

SPREAD = {"min": 1.0, "median": 1.0, "max": 1.0}
DURING: dict[str, Any] = {
    "samples": 80, "interval_s": 0.25, "sm_mhz": None, "memory_mhz": None, "power_w": None, "temperature_c": None,
    "cpu_mhz": {"min": 2890, "median": 2900.0, "max": 2905}, "others_cores": {"min": 0.0, "median": 0.1, "max": 0.7},
    "throttling": None,
}  # fmt: skip
GPU_DURING = DURING | {
    "sm_mhz": {"min": 1755, "median": 1980.0, "max": 1980}, "memory_mhz": {"min": 2619, "median": 2619.0, "max": 2619},
    "power_w": {"min": 210.4, "median": 318.0, "max": 402.2}, "temperature_c": {"min": 44, "median": 51.0, "max": 53},
    "throttling": {},
}  # fmt: skip


def write_rounds(
    root: Path, made: GeneratedRuns, seconds: dict[str, list[list[float | None]]], name: str = "example",
    starts: int = 1, **changes: Any
) -> Path:  # fmt: skip
    """`seconds`: engine to (rounds of all starts, clips), the clips being the manifest's first; None for no output."""
    build = root / "build" / name
    one = next(iter(seconds.values()))
    count, clips = len(one), len(one[0])
    each = count // starts
    ids = [row["id"] for row in made.manifest[:clips]]
    rows = [
        {"start": (number - 1) // each + 1, "round": number, "place": place, "engine": engine, "clip": clip,
         "seconds": value, "device_seconds": None,
         "tokens": None if value is None else 7, "error": None if value is not None else "no numbers."}
        for number in range(1, count + 1)
        for place, engine in enumerate(seconds, 1)
        for clip, value in zip(ids, seconds[engine][number - 1], strict=True)
    ]  # fmt: skip
    keys = ("settings", "dtype", "prompt", "device", "threads", "environment", "load_s", "warmup_s", "memory")
    during = GPU_DURING if made.about[next(iter(seconds))]["device"] == "cuda" else DURING
    about = {
        "profile": name,
        "rounds": {"starts": starts, "count": each, "clips": clips, "seed": 0},
        "data_sha256": sha256(build / "data" / "manifest.jsonl"),
        "weights_sha256": Checkpoint.model_validate(made.model).weights_sha256,
        "clips": ids,
        "started": "2026-11-23T05:10:00+00:00",
        "seconds": 61.0,
        "left_out": {},
        "engines": {
            engine: {key: made.about[engine][key] for key in keys}
            | {"conditions": dict(during), "waiting": {"seconds": 30.0, "cpu_s": 0.02}}
            for engine in seconds
        },
    } | changes
    write_jsonl(build / "rounds" / "rounds.jsonl", rows)
    write_json(build / "rounds" / "rounds.json", about)
    return build / "rounds"


def some_seconds(made: GeneratedRuns, count: int = 8, clips: int = 4, seed: int = 0) -> dict[str, Any]:
    """Each engine's seconds of the whole set again, a few per cent off in each round."""
    chance = random.Random(seed)
    return {
        engine: [[row["seconds"][0] * chance.uniform(0.94, 1.08) for row in rows[:clips]] for _ in range(count)]
        for engine, rows in made.results.items()
    }
