"""Does fused_batch give the token ids of one utterance at a time? Real weights, real speech; one JSON, kind `parity`.

    python benchmarks/batch_parity.py --model build/models/bundled-tiny.en --clips samples --utterances 1000

The clips are decoded one at a time by engine fused, and then again and again in shuffled order, `--utterances` in all,
by fused_batch. A row compares fused_batch with one at a time, or either with Hugging Face in fp32; `differ` has each
clip and hypothesis once, with how often it came, and `ties` and `differing` count utterances. `company`: clips whose
own repeats were not all the same. Token ids are kept as parity.py keeps them, so that what a GPU decoded
(`--decode-only`) is compared on a machine without one.
"""

import argparse
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from parity import Work, device_name
from record import device_label, record
from settings import measure_params
from speech import clips_in

from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.engines.create import create
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens
from whisper_speedup.engines.protocol import Utterance
from whisper_speedup.measure.environment import fingerprint

REFERENCE = "huggingface fp32"


def main() -> None:
    """Decode what is not kept, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--beams", nargs="+", type=int, default=[5])
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument("--slots", type=int, help="the engine's own choice if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--outputs", type=Path, default=Path("build/parity"), help="where token ids are kept")
    parser.add_argument("--decode-only", action="store_true", help="keep the token ids and compare nothing")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips, rows = clips_in(arguments.clips), []
    for beams in arguments.beams:
        work = Work(arguments.model, beams, 50, clips, device, arguments.outputs)
        many = decode_many(work, arguments.utterances, arguments.slots or "auto")
        one = work.decode("fused", {"engine": "fused"})
        if not arguments.decode_only:
            rows += compare(work, one, many)
    if arguments.decode_only:
        return
    path = record("parity", device_label(device), arguments.out, rows=rows)
    for row in rows:
        print(
            f"{row['model']} {row['beams']} beams, {row['engine']} against {row['reference']}: {row['differing']} of"
            f" {row['utterances']} differ, {row['ties']} of them ties; {len(row['company'])} clips by company"
        )
    print(path)


def decode_many(work: Work, utterances: int, slots: Any) -> dict[str, Any]:
    """`tokens` of fused_batch for each of `order`, the clips' indices, and the `device`."""
    path = work.kept / f"{work.model.name}-{work.generation.num_beams}-fused_batch-{utterances}.json"
    if path.is_file() and (known := read_json(path))["key"] == work.key:
        return known
    order = [index % len(work.clips) for index in range(utterances)]
    random.Random(0).shuffle(order)
    engine: Any = create("fused_batch", measure_params(work.device.type, slots=slots))
    engine.load(work.model, work.generation, work.device)
    engine.warm_up(work.inputs[0].to(work.device))
    stream = [Utterance(index, lambda one=work.inputs[clip]: one) for index, clip in enumerate(order)]
    found = dict(engine.decode_stream(iter(stream)))
    summary = engine.stream_summary()
    print(f"{utterances} utterances in {summary['seconds']:.2f} s, {summary}")
    tokens = [found[index].tokens for index in range(utterances)]
    slots = engine.slots.count
    result = {"key": work.key, "device": device_name(work.device), "order": order, "tokens": tokens, "slots": slots}
    engine.close()
    write_json(path, result)
    return result


def compare(work: Work, one: dict[str, Any], many: dict[str, Any]) -> list[dict[str, Any]]:
    """fused_batch against one at a time, and both against the reference."""
    reference = work.decode(REFERENCE, {"engine": "huggingface", "precision": "float32"})
    exact = load(work.model, work.device)
    judge = Judge(
        exact, prompt_tokens(exact, generate_arguments(work.generation, exact.generation_config)),
        work.generation.length_penalty,
    )  # fmt: skip
    each = {"device": one["device"], "order": list(range(len(work.clips))), "tokens": one["tokens"]}
    return [
        against(work, judge, "fused_batch", many, "fused one at a time", one),
        against(work, judge, "fused_batch", many, REFERENCE, reference),
        against(work, judge, "fused one at a time", each, REFERENCE, reference),
    ]


def against(
    work: Work, judge: Judge, name: str, found: dict[str, Any], reference_name: str, reference: dict[str, Any]
) -> dict[str, Any]:
    """One row: every utterance of `found` against the reference's tokens of its clip."""
    coarsest = "float32" if found["device"] == str(fingerprint()["cpu"]) else "float16"
    seen = Counter((clip, tuple(tokens)) for clip, tokens in zip(found["order"], found["tokens"], strict=True))
    differ, ties = [], 0
    for (clip, tokens), times in sorted(seen.items()):
        expected = reference["tokens"][clip]
        if list(tokens) == expected:
            continue
        limit = work.generation.max_length
        pair = [Hypothesis(sequence, len(sequence) < limit) for sequence in (expected, list(tokens))]
        before, after = (scored.value for scored in judge.score(work.inputs[clip], pair))
        ties += times * (abs(after - before) <= EPSILON[coarsest])
        differ.append(
            {"clip": work.clips[clip].stem, "times": times, "reference": expected, "engine": list(tokens),
             "reference_score": before, "engine_score": after, "gap": after - before}
        )  # fmt: skip
    kinds = Counter(clip for clip, _ in seen)
    return {
        "engine": name, "reference": reference_name, "model": work.model.name, "beams": work.generation.num_beams,
        "clips": len(work.clips), "utterances": len(found["tokens"]), "differ": differ, "ties": ties,
        "differing": sum(entry["times"] for entry in differ), "slots": found.get("slots"),
        "company": [work.clips[clip].stem for clip, count in kinds.items() if count > 1],
        "device": found["device"], "reference_device": reference["device"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
