"""Corrupted clips among good ones: the good ones must decode as if the others were not there. One JSON a run.

    python benchmarks/faulty_clips.py --model build/models/bundled-tiny.en --clips samples
    python benchmarks/faulty_clips.py --model build/models/bundled-tiny.en --clips samples --utterances 60 --bad 6

Utterances are pieces of 1 to 8 s, cut at random from --clips. The pipeline's data and decode stages run twice, each
decode in a process of its own: over the good clips alone, and over the same with --bad more spread among them, broken
in turn in each of the ways of BREAKS; the last two are broken only after the data stage, behind its back.
Exit code 1 when a good clip's tokens, text or truncation differ, a bad one has an output or no reason, or a row is
missing. Scores are compared too, and counted where they are not the same number.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from record import device_label, record
from speech import clips_in, read

from whisper_speedup.audio import manifest
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.params.sources import Folder, Local

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000


def nothing(clip: Path) -> None:
    clip.write_bytes(b"")


def text(clip: Path) -> None:
    clip.write_text("this is no recording")


def half(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])


def not_a_number(clip: Path) -> None:
    samples, rate = soundfile.read(clip, dtype="float32")
    samples[len(samples) // 2] = np.nan
    soundfile.write(clip, samples, rate, format="WAV", subtype="FLOAT")


def broken_header(clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    content[24:28] = b"\xff\xff\xff\x7f"  # the sampling rate
    clip.write_bytes(content)


def eight_bits(clip: Path) -> None:
    samples, rate = soundfile.read(clip)
    soundfile.write(clip, samples, rate, format="WAV", subtype="PCM_U8")


def damaged_flac(clip: Path) -> None:
    samples, rate = soundfile.read(clip)
    soundfile.write(clip, samples, rate, format="FLAC")
    content = bytearray(clip.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    clip.write_bytes(content)


def changed_later(clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    content[len(content) // 2] ^= 1
    clip.write_bytes(content)


def gone_later(clip: Path) -> None:
    clip.unlink()


BREAKS: list[Callable[[Path], None]] = [
    nothing, text, half, not_a_number, broken_header, eight_bits, damaged_flac, changed_later, gone_later,
]  # fmt: skip
LATER = {"changed_later", "gone_later"}  # done to the pipeline's own copy, behind the data stage's back


def main() -> int:
    """Make the clips, decode twice, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--engine", default="fused")
    parser.add_argument("--utterances", type=int, default=1000, help="good and bad together")
    parser.add_argument("--bad", type=int, default=10)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    speech = [read(clip)[0] for clip in clips_in(arguments.clips)]
    if not speech or not 0 < arguments.bad < arguments.utterances:
        parser.error("there must be clips, and some good and some bad ones")
    model, out = arguments.model.resolve(), arguments.out.resolve()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        bad = make_clips(speech, arguments.utterances, arguments.bad, random.Random(arguments.seed))
        bad_or_not = ("good", "mixed")
        for run in bad_or_not:
            stages_before(run, model, arguments)
        break_later(bad)
        with ThreadPoolExecutor() as both:  # each is a process; nothing here is timed
            results = dict(zip(bad_or_not, both.map(decode, bad_or_not, [arguments.engine] * 2), strict=True))
        settings = read_json(Path("build/mixed/runs") / arguments.engine / "run.json")["settings"]
        os.chdir(ROOT)
    rows, wrong, other_scores = judge(results["good"], results["mixed"], bad)
    path = record(
        "faulty_clips", device_label(device), out, engine=arguments.engine, settings=settings, model=model.name,
        utterances=arguments.utterances, bad=arguments.bad, seed=arguments.seed, seconds=time.perf_counter() - begin,
        good_that_differ=len(wrong["good"]), bad_without_a_reason=len(wrong["bad"]), rows_missing=len(wrong["missing"]),
        scores_that_differ=other_scores, passed=not any(wrong.values()), rows=rows,
    )  # fmt: skip
    for row in rows:
        print(f"{row['id']}  {row['how']:14} {row['error']}")
    print(f"{arguments.utterances - arguments.bad} good clips: {len(wrong['good'])} decode otherwise than without the"
          f" {arguments.bad} bad ones, {other_scores} scores differ, {len(wrong['missing'])} rows missing")  # fmt: skip
    print(path)
    return 1 if any(wrong.values()) else 0


def make_clips(speech: list[np.ndarray], count: int, bad: int, chance: random.Random) -> dict[str, str]:
    """The folders good/ and mixed/; returns the name of each bad clip and how it is broken."""
    for folder in ("good", "mixed"):
        Path(folder).mkdir()
    numbers = chance.sample(range(count), bad)
    chosen = {f"{number:05d}": BREAKS[place % len(BREAKS)] for place, number in enumerate(numbers)}
    for number in range(count):
        samples = chance.choice(speech)
        size = int(chance.uniform(1, 8) * RATE)
        start = chance.randrange(max(1, len(samples) - size))
        clip = Path("mixed", f"{number:05d}.wav")
        soundfile.write(clip, samples[start : start + size], RATE, subtype="PCM_16")
        breaks = chosen.get(clip.stem)
        if breaks is None:
            shutil.copy(clip, "good")
        elif breaks.__name__ not in LATER:
            breaks(clip)
    return {name: breaks.__name__ for name, breaks in chosen.items()}


def stages_before(run: str, model: Path, arguments: argparse.Namespace) -> None:
    """The data and model stages of the profile `run`."""
    profile = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text(encoding="utf-8"))
    profile["generation"] = {"max_length": arguments.max_length}
    Path("profiles").mkdir(exist_ok=True)
    Path("profiles", f"{run}.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    data = Folder(source="folder", path=run)
    manifest.prepare(data, Path("build", run, "data"))
    write_json(Path("build", run, "model.json"), prepare(Local(source="local", path=str(model))).content())


def break_later(bad: dict[str, str]) -> None:
    """Break the clips that were whole when the data stage looked."""
    breaks = {action.__name__: action for action in BREAKS}
    path = Path("build/mixed/data/manifest.jsonl")
    for row in read_manifest(path):
        if bad.get(row.id) in LATER and row.audio is not None:
            breaks[bad[row.id]](path.parent / row.audio)


def decode(run: str, engine: str) -> list[dict[str, Any]]:
    """The rows of the decode stage, in a process of its own."""
    paths = [str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    command = [sys.executable, "-m", "whisper_speedup", "decode", "--engine", engine, "--profile", run]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))}, check=True)
    return read_jsonl(Path("build", run, "runs", engine, "results.jsonl"))


def judge(
    good: list[dict[str, Any]], mixed: list[dict[str, Any]], bad: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[str, list[str]], int]:
    """The bad clips' rows, the ids of what is wrong, and how many good clips have another score."""
    found = {row["id"]: row for row in mixed}
    wanted = [*(row["id"] for row in good), *bad]
    wrong: dict[str, list[str]] = {"missing": [name for name in wanted if name not in found], "good": [], "bad": []}
    other_scores = 0
    for row in good:
        other = found.get(row["id"], {})
        if row["error"] is not None or any(row[key] != other.get(key) for key in ("tokens", "text", "truncated")):
            wrong["good"].append(row["id"])
        other_scores += row["score"] != other.get("score")
    rows = []
    for name, how in sorted(bad.items()):
        row = found.get(name, {"tokens": None, "error": None})
        if row["tokens"] is not None or not row["error"]:
            wrong["bad"].append(name)
        rows.append({"id": name, "how": how, "error": row["error"]})
    return rows, wrong, other_scores


if __name__ == "__main__":
    sys.exit(main())
