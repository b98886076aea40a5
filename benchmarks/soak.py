"""Does memory grow from utterance to utterance? 1000 of them, of changing length, through one engine; one JSON a run.

    python benchmarks/soak.py --model build/models/bundled-tiny.en --clips samples
    python benchmarks/soak.py --size large-v2

Every 50 utterances it reads what torch has allocated and reserved on the GPU and what the process holds in RAM. On a
GPU it fails (exit code 1) when allocated or reserved memory is larger at any later reading than after the first 50:
nothing may be kept of an utterance, not one byte. On a CPU there is only the process's resident memory, which moves
without a leak as malloc takes and returns pages (up and down by 35 MiB in a run of 300). So there the lowest reading of
the second half counts, and may be TOLERANCE above the first: an utterance's features are 0.9 MiB, and one of them kept
in 13 utterances is over it in 1000.

Utterances: with --clips, speech joined from random clips and cut to a random length of 1 to 30 s; without, noise of
such a length. Synthetic weights never end a text, so with --size all texts are --max-length long.
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from record import device_label, record
from settings import generation_params, measure_params
from speech import clips_in, read
from tqdm import tqdm
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio.features import log_mel
from whisper_speedup.checkpoints import synthetic
from whisper_speedup.engines.create import create
from whisper_speedup.engines.huggingface import quiet_transformers

RATE = 16_000
TOLERANCE = 32 * 2**20


def main() -> None:
    """Run, write, print; exit code 1 when memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--model", type=Path, help="a Hugging Face folder")
    weights.add_argument("--size", choices=list(synthetic.SIZES), help="synthetic weights of this size")
    parser.add_argument("--clips", nargs="+", type=Path, default=[], help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--engine", default="fused")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if arguments.utterances < 2 * arguments.every:
        parser.error("--utterances must be at least twice --every, or there is nothing to compare")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    engine, extractor = load(arguments, device)
    speech = [read(clip)[0] for clip in clips_in(arguments.clips)]
    if arguments.clips and not speech:
        parser.error(f"no FLAC or WAV in {', '.join(map(str, arguments.clips))}")
    begin = time.perf_counter()
    readings, lengths = soak(engine, extractor, speech, device, arguments.utterances, arguments.every)
    seconds = time.perf_counter() - begin
    grown = growth(readings)
    passed = max(grown["allocated"], grown["reserved"]) <= 0 if device.type == "cuda" else grown["rss"] <= TOLERANCE
    path = record(
        "soak", device_label(device), arguments.out, engine=arguments.engine, settings=engine.settings,
        model=arguments.model.name if arguments.model else arguments.size, trained=arguments.model is not None,
        beams=arguments.beams, utterances=arguments.utterances, seconds=seconds, tokens_shortest=min(lengths),
        tokens_longest=max(lengths), grown=grown, rss_tolerance=TOLERANCE if device.type == "cpu" else None,
        passed=passed, rows=readings,
    )  # fmt: skip
    for reading in readings:
        memory = "  ".join(f"{key} {mib(value)}" for key, value in reading.items() if key != "utterances")
        print(f"{reading['utterances']:5}  {memory}")
    change = ", ".join(f"{key} {mib(value)}" for key, value in grown.items())
    print(f"{arguments.utterances} utterances of {min(lengths)} to {max(lengths)} tokens in {seconds:.0f} s")
    print(f"grown after the first {arguments.every} by {change}: {'passed' if passed else 'FAILED'}")
    print(path)
    sys.exit(0 if passed else 1)


def load(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, WhisperFeatureExtractor]:
    """The engine, loaded but cold, and the feature extractor that goes with its model."""
    quiet_transformers()
    measure = measure_params(device.type)
    generation = generation_params(arguments.beams, arguments.max_length)
    engine: Any = create(arguments.engine, measure)
    if arguments.model:
        engine.load(arguments.model, generation, device)
        return engine, WhisperFeatureExtractor.from_pretrained(arguments.model)
    dtype = torch.float16 if device.type == "cuda" and arguments.engine == "fused" else torch.float32
    model = synthetic.make(arguments.size, 0, torch.device("cpu"), dtype)
    engine.use(model, generation, device)
    return engine, WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)


def soak(
    engine: Any,
    extractor: WhisperFeatureExtractor,
    speech: list[np.ndarray],
    device: torch.device,
    utterances: int,
    every: int,
) -> tuple[list[dict[str, int]], list[int]]:
    """A reading after every so many utterances, and how many tokens each utterance gave."""
    chance = random.Random(0)
    process = psutil.Process()
    readings: list[dict[str, int]] = []
    lengths: list[int] = []
    engine.warm_up(log_mel(utterance(speech, chance), extractor).to(device))
    for number in tqdm(range(1, utterances + 1), desc="soaking", unit="utterance", disable=None):
        lengths.append(len(engine.generate(log_mel(utterance(speech, chance), extractor).to(device)).tokens))
        if number % every == 0:
            reading = {"utterances": number, "rss": process.memory_info().rss}
            if device.type == "cuda":
                reading["allocated"] = torch.cuda.memory_allocated(device)
                reading["reserved"] = torch.cuda.memory_reserved(device)
            readings.append(reading)
            if not sys.stderr.isatty():
                print(f"soaking: {number} of {utterances} utterances", file=sys.stderr, flush=True)
    return readings, lengths


def utterance(speech: list[np.ndarray], chance: random.Random) -> np.ndarray:
    """1 to 30 s of joined speech, or of noise where there is none: (n,) float32."""
    count = int(chance.uniform(1, 30) * RATE)
    if not speech:
        return np.random.default_rng(chance.getrandbits(32)).normal(0, 0.1, count).astype(np.float32)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        parts.append(chance.choice(speech))
    return np.concatenate(parts)[:count]


def growth(readings: list[dict[str, int]]) -> dict[str, int]:
    """By how many bytes each kind of memory was larger than at the first reading.

    The allocator's at its largest; the process's at its smallest in the second half, for it goes up and down.
    """
    first, *later = readings
    grown = {key: max(reading[key] for reading in later) - first[key] for key in first if key != "utterances"}
    grown["rss"] = min(reading["rss"] for reading in later[(len(later) - 1) // 2 :]) - first["rss"]
    return grown


def mib(size_bytes: int) -> str:
    """A size to print."""
    return f"{size_bytes / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
