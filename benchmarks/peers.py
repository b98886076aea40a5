"""Other engines on the bundled recordings: seconds and token ids beside the baseline's, one process, interleaved.

    python benchmarks/peers.py --rounds 3

Real weights (tiny.en), the 13 recordings in samples/, 5 beams, at most 50 tokens. Each round decodes every clip with
one engine after the other, all with the same number of threads. A sum is of each clip's median over the rounds.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from record import ROOT, device_label, record
from settings import generation_params, measure_params
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from whisper_speedup.audio.decode import decode
from whisper_speedup.audio.features import log_mel
from whisper_speedup.engines.create import create
from whisper_speedup.measure.clock import synchronize

ENGINES = ("huggingface", "fused", "ctranslate2", "ctranslate2_int8")


def main() -> None:
    """Load, warm up, decode, compare, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument("--model", type=Path, default=Path("build/models/bundled-tiny.en"))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--alone", action="store_true", help="nothing else ran on this machine")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, load = torch.device(arguments.device), os.getloadavg()
    extractor = WhisperFeatureExtractor.from_pretrained(arguments.model)
    tokenizer = WhisperTokenizer.from_pretrained(arguments.model)
    clips = {
        path.stem: log_mel(decode(path.read_bytes()).samples, extractor).to(device)
        for path in sorted((ROOT / "samples").glob("*.flac"))
    }
    engines: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in arguments.engines:
        engine = engines[name] = create(name, measure_params(arguments.device))
        begin = time.perf_counter()
        engine.load(arguments.model, generation_params(arguments.beams), device)
        load_s = time.perf_counter() - begin
        begin = time.perf_counter()
        engine.warm_up(next(iter(clips.values())))
        rows[name] = {
            "engine": name, "settings": engine.settings, "dtype": engine.dtype, "prompt": engine.prompt,
            "load_s": load_s, "warmup_s": time.perf_counter() - begin,
        }  # fmt: skip
    seconds: dict[str, dict[str, list[float]]] = {name: {clip: [] for clip in clips} for name in engines}
    tokens: dict[str, dict[str, list[int]]] = {name: {} for name in engines}
    for _ in range(arguments.rounds):
        for clip, features in clips.items():
            for name, engine in engines.items():
                synchronize(device)
                begin = time.perf_counter()
                found = engine.generate(features)
                synchronize(device)
                seconds[name][clip].append(time.perf_counter() - begin)
                tokens[name][clip] = found.tokens
    first = arguments.engines[0]
    for name, row in rows.items():
        unlike = [clip for clip in clips if tokens[name][clip] != tokens[first][clip]]
        row |= {
            "total_s": sum(statistics.median(seconds[name][clip]) for clip in clips),
            "rounds_s": [sum(seconds[name][clip][i] for clip in clips) for i in range(arguments.rounds)],
            "seconds": seconds[name],
            "clips_with_other_tokens": unlike,
            "texts": {
                clip: [tokenizer.decode(tokens[n][clip], skip_special_tokens=True) for n in (first, name)]
                for clip in unlike
            },
        }
    shared = "nothing else ran" if arguments.alone else "the machine was shared with other work while this ran"
    path = record(
        "peers", device_label(device), arguments.out, model=arguments.model.name, beams=arguments.beams,
        threads=arguments.threads, clips=len(clips), machine=shared, compared_with=first,
        load_average={"before": load, "after": os.getloadavg()}, rows=list(rows.values()),
    )  # fmt: skip
    for name, row in rows.items():
        ratio = rows[first]["total_s"] / row["total_s"]
        print(
            f"{name:18} {row['total_s']:8.2f} s  x{ratio:5.2f}  other tokens in {len(row['clips_with_other_tokens'])}"
        )
    print(path)


if __name__ == "__main__":
    main()
