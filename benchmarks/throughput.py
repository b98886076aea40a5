"""How long does a whole test set take with engine fused_batch? One JSON a run, kind `throughput`.

    python benchmarks/throughput.py --size large-v2 --utterances 2620
    python benchmarks/throughput.py --model build/models/bundled-tiny.en --clips samples --utterances 1000

With `--size`: synthetic weights, whose hypotheses would never end like speech, so end-of-text is forbidden and each
utterance ends at a number of steps drawn beforehand. Durations are log-normal with LibriSpeech test-clean's mean and
median (7.42 s and 5.79 s), cut to 1.3 to 30 s; a second of speech is 3.3 tokens (over 53 real clips tiny.en gave 3.04
with the limit of 50 tokens in force; test-clean's 2.7 words a second at 1.3 tokens each are 3.5); a search takes 2
steps more than its result has tokens (1.98 with those clips); and the notebook's limit of 50 holds. The audio is noise
of that duration: reading files is not in it, making log-mel features is, in threads beside the decoding. With
`--model`: real weights and real clips, again and again in shuffled order.

The floor is worked out from the shape: the encoder's arithmetic at `--tflops`, and the decoder's bytes at this GPU's
copy bandwidth.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import device_label, record
from settings import generation_params
from speech import clips_in, read
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio.features import log_mel
from whisper_speedup.checkpoints import synthetic
from whisper_speedup.engines.fused_batch import FusedBatch, FusedBatchParams
from whisper_speedup.engines.protocol import Generation, Utterance
from whisper_speedup.measure.bandwidth import copy_bandwidth

MEAN_S, MEDIAN_S, SHORTEST_S, LONGEST_S = 7.42, 5.79, 1.3, 30.0
TOKENS_A_SECOND, OVERSHOOT, LIMIT = 3.3, 2, 50
RATE = 16000


def main() -> None:
    """Decode, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", help="synthetic weights of this published size")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder instead")
    parser.add_argument("--clips", nargs="+", type=Path, default=[], help="folders of 16 kHz clips, for --model")
    parser.add_argument("--utterances", type=int, nargs="+", default=[2620], help="one for each of --slots, or one")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--slots", type=int, nargs="+", help="a run for each; the engine's own choice if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tflops", type=float, default=700, help="dense fp16 that the floor's encoder reaches")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, Any]] = []
    try:
        for slots, count in zip_longest(
            arguments.slots or ["auto"], arguments.utterances, fillvalue=arguments.utterances[-1]
        ):
            rows.append(run(arguments, slots, count, device))
            print(
                "{model}, {slots} slots: {utterances} utterances in {seconds:.2f} s, encoder {encoder_s:.2f}, decoder"
                " {decoder_s:.2f} in {steps} steps, RTFx {rtfx:.0f}, {reserved_gib:.1f} GiB".format(**rows[-1]),
                rows[-1].get("floor_s", ""),
                flush=True,
            )
    finally:
        print(record("throughput", device_label(device), arguments.out, rows=rows))


def run(arguments: argparse.Namespace, slots: Any, count: int, device: torch.device) -> dict[str, Any]:
    """Load, warm up, decode the set once; the row."""
    engine = FusedBatch(FusedBatchParams(slots=slots))
    begin = time.perf_counter()
    if arguments.size:
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        model = synthetic.make(arguments.size, 0, device, dtype)
        config = model.config
        engine.use(model, generation_params(arguments.beams, LIMIT, min_length=config.max_target_positions), device)
        del model
        extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
        utterances, about = synthetic_set(count, arguments.seed, extractor)
    else:
        engine.load(arguments.model, generation_params(arguments.beams, LIMIT), device)
        config = WhisperConfigOf(arguments.model)
        extractor = WhisperFeatureExtractor.from_pretrained(arguments.model)
        utterances, about = clip_set(count, arguments.seed, arguments.clips, extractor)
    loaded = time.perf_counter()
    engine.warm_up(utterances[0].features().to(device))
    warm = time.perf_counter()
    outcomes = list(engine.decode_stream(iter(utterances)))
    summary = engine.stream_summary()
    assert sorted(index for index, _ in outcomes) == list(range(len(utterances)))
    found = [outcome for _, outcome in outcomes if isinstance(outcome, Generation)]
    utterance_steps = [one.max_length or len(generation.tokens) for one, generation in in_order(utterances, outcomes)]
    audio_s = sum(one.duration_s or 0.0 for one in utterances)
    seconds = summary["seconds"]
    row = {
        "engine": engine.name, "model": arguments.size or arguments.model.name, "trained": arguments.size is None,
        "gpus": int(device.type == "cuda"), "beams": arguments.beams, "utterances": len(outcomes),
        "failed": len(outcomes) - len(found), "seconds": seconds,
        "encoder_share": summary["encoder_s"] / (summary["encoder_s"] + summary["decoder_s"]),
        **{key: summary[key] for key in ("encoder_s", "decoder_s", "steps", "slots")},
        "utterances_a_second": len(outcomes) / seconds, "audio_s": audio_s, "rtfx": audio_s / seconds,
        "tokens": sum(len(one.tokens) for one in found),
        "in_slot_s": {"median": statistics.median(one.seconds or 0.0 for one in found)},
        "load_s": loaded - begin, "warmup_s": warm - loaded, "set": about, "settings": engine.settings,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30 if device.type == "cuda" else 0.0,
    }  # fmt: skip
    engine.close()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        row["floor_s"] = floor(
            config,
            sum(utterance_steps),
            len(utterance_steps),
            summary["steps"],
            arguments.tflops,
            copy_bandwidth(device),
        )
        row["floor_share"] = row["floor_s"]["all"] / seconds
    return row


def in_order(utterances: list[Utterance], outcomes: list[Any]) -> Iterator[tuple[Utterance, Generation]]:
    """Each utterance that has a result, with it."""
    return ((utterances[index], outcome) for index, outcome in outcomes if isinstance(outcome, Generation))


def synthetic_set(count: int, seed: int, extractor: Any) -> tuple[list[Utterance], dict[str, Any]]:
    """Utterances of noise with drawn durations and numbers of steps, and what was drawn."""
    chance = random.Random(seed)
    noise = np.random.default_rng(seed).standard_normal(60 * RATE).astype(np.float32) * 0.1
    sigma = math.sqrt(2 * math.log(MEAN_S / MEDIAN_S))
    utterances, steps = [], []
    for index in range(count):
        duration = min(max(chance.lognormvariate(math.log(MEDIAN_S), sigma), SHORTEST_S), LONGEST_S)
        begin, length = chance.randrange(30 * RATE), int(duration * RATE)
        steps.append(min(LIMIT, max(1, round(TOKENS_A_SECOND * duration)) + OVERSHOOT))

        def features(begin: int = begin, length: int = length) -> torch.Tensor:
            return log_mel(noise[begin : begin + length], extractor)

        utterances.append(Utterance(index, features, duration, steps[-1]))
    about = {
        "durations": "log-normal", "median_s": MEDIAN_S, "mean_s": MEAN_S, "cut_to_s": [SHORTEST_S, LONGEST_S],
        "tokens_a_second": TOKENS_A_SECOND, "overshoot": OVERSHOOT, "limit": LIMIT, "seed": seed,
        "steps_mean": statistics.mean(steps), "steps_at_limit": sum(one == LIMIT for one in steps),
    }  # fmt: skip
    return utterances, about


def clip_set(count: int, seed: int, folders: list[Path], extractor: Any) -> tuple[list[Utterance], dict[str, Any]]:
    """`count` utterances: all clips as often as that takes, in shuffled order; audio is in memory, features are not."""
    clips = [read(clip) for clip in clips_in(folders)]
    order = [index % len(clips) for index in range(count)]
    random.Random(seed).shuffle(order)
    utterances = [
        Utterance(index, lambda audio=clips[clip][0]: log_mel(audio, extractor), len(clips[clip][0]) / RATE)
        for index, clip in enumerate(order)
    ]
    return utterances, {"clips": len(clips), "seed": seed}


class WhisperConfigOf:
    """The fields of a folder's config.json that the floor needs."""

    def __init__(self, folder: Path) -> None:
        from whisper_speedup.disk.files import read_json

        vars(self).update(read_json(folder / "config.json"))


def floor(
    config: Any, utterance_steps: int, utterances: int, steps: float, tflops: float, bandwidth: float
) -> dict[str, float]:
    """Seconds that the set takes at least: `encoder` by its arithmetic, cross-attention's projection included, `cross`
    by the keys and values of each utterance's steps, `weights` by the decoder's, once a step of the batch."""
    d, layers, ffn, positions = (
        config.d_model,
        config.encoder_layers,
        config.encoder_ffn_dim,
        config.max_source_positions,
    )
    products = 2 * positions * (4 * d * d + 2 * d * ffn)
    attention = 4 * positions * positions * d
    projection = config.decoder_layers * 2 * 2 * positions * d * d
    convolutions = 2 * 3 * (2 * positions * config.num_mel_bins + positions * d) * d
    flop = layers * (products + attention) + projection + convolutions
    decoder = config.decoder_layers * (6 * d * d + 2 * d * config.decoder_ffn_dim) + config.vocab_size * d
    found = {
        "encoder": utterances * flop / (tflops * 1e12),
        "cross": utterance_steps * config.decoder_layers * 2 * positions * d * 2 / bandwidth,
        "weights": steps * decoder * 2 / bandwidth,
    }
    return {**found, "all": sum(found.values()), "tflops": tflops, "bandwidth_gb_s": bandwidth / 1e9,
            "encoder_tflop": flop / 1e12}  # fmt: skip


if __name__ == "__main__":
    main()
