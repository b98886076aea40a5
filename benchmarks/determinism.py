"""Does the engine give the same bytes every time? Many runs over the same clips through one engine; one JSON a run.

    python benchmarks/determinism.py --model build/models/bundled-tiny.en --clips samples ../shared/speech --runs 100

A run decodes every clip; its digest is SHA-256 over all token ids and the bits of all scores. Between runs the clips
change their order, seeded, so that no utterance always follows the same one; the digest is over the clips as listed.
`rows` has the runs whose digest was not the first one's, with the clips that differ; exit code 1 when there are any.
"""

import argparse
import hashlib
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params, measure_params
from speech import clips_in, features
from tqdm import tqdm
from transformers import WhisperFeatureExtractor

from whisper_speedup.engines.create import create
from whisper_speedup.engines.protocol import Generation


def main() -> None:
    """Run, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--layers", choices=["auto", "triton", "persistent"], default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = clips_in(arguments.clips)
    if not clips or arguments.runs < 2:
        parser.error("at least one clip and two runs are needed, or there is nothing to compare")
    extractor = WhisperFeatureExtractor.from_pretrained(arguments.model)
    inputs = [features(clip, extractor).to(device) for clip in clips]
    engine: Any = create("fused", measure_params(device.type, layers=arguments.layers))
    engine.load(arguments.model, generation_params(arguments.beams, arguments.max_length), device)
    engine.warm_up(inputs[0])
    chance = random.Random(0)
    first: list[bytes] = []
    rows, tokens = [], 0
    begin = time.perf_counter()
    for number in tqdm(range(arguments.runs), desc="decoding", unit="run", disable=None):
        order = list(range(len(inputs)))
        if number:
            chance.shuffle(order)
        found = [b""] * len(inputs)
        for index in order:
            generation = engine.generate(inputs[index])
            found[index] = as_bytes(generation)
            tokens += len(generation.tokens) if number == 0 else 0
        first = first or found
        if found != first:
            unlike = [clip.stem for clip, one, other in zip(clips, found, first, strict=True) if one != other]
            rows.append({"run": number, "digest": digest(found), "clips": unlike})
    seconds = time.perf_counter() - begin
    path = record(
        "determinism", device_label(device), arguments.out, model=arguments.model.name, beams=arguments.beams,
        settings=engine.settings, clips=len(clips), runs=arguments.runs, tokens=tokens, digest=digest(first),
        always_the_same=not rows, seconds=seconds, rows=rows,
    )  # fmt: skip
    print(f"{arguments.runs} runs over {len(clips)} clips in {seconds:.0f} s: {len(rows)} unlike the first")
    print(path)
    sys.exit(1 if rows else 0)


def as_bytes(generation: Generation) -> bytes:
    """A hypothesis as bytes: its token ids and its score's bits."""
    score = float("nan") if generation.score is None else generation.score
    return struct.pack(f"<{len(generation.tokens)}id?", *generation.tokens, score, generation.truncated)


def digest(found: list[bytes]) -> str:
    """SHA-256 over all clips."""
    return hashlib.sha256(b"".join(len(one).to_bytes(4, "little") + one for one in found)).hexdigest()


if __name__ == "__main__":
    main()
