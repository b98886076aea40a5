"""What Kernl's masking of cross-attention keys does to the text, beside what rounding does. Runs on a CPU.

    python benchmarks/phantom.py --models build/models/bundled-tiny.en build/models/bundled-base --clips samples

Four ways of decoding each clip, with the same weights and the same beam search settings. `fused fp32` is the
reference: right masking, fp32 (parity.py has it against Hugging Face). The others change the masking (kernl_phantom),
the arithmetic (fp16, everywhere but in sums and softmax, on the CPU too), or both.
A row counts the clips whose token ids, and whose normalised texts, are not the reference's; `differ` lists them, with
the scores of both hypotheses under Hugging Face's fp32 model. Where a folder has a transcripts.jsonl (`id`, `text`),
the row has word errors too.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import record
from settings import generation_params
from speech import clips_in, features
from tqdm import tqdm
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.compare.wer import load_normaliser, total, word_errors
from whisper_speedup.disk.files import read_jsonl
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.phantom import BLOCK
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params.profile import GenerationParams

CPU = torch.device("cpu")
REFERENCE = "fused fp32"
Decode = Callable[[torch.Tensor], list[int]]


def main() -> None:
    """Decode everything and write OUT/phantom-DATE-cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="Hugging Face folders")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    quiet_transformers()
    clips = clips_in(arguments.clips)
    spoken = {
        row["id"]: row["text"]
        for folder in arguments.clips
        if (folder / "transcripts.jsonl").is_file()
        for row in read_jsonl(folder / "transcripts.jsonl")
    }
    generation = generation_params(arguments.beams, arguments.max_length)
    rows = [row for model in arguments.models for row in compare(model, generation, clips, spoken)]
    path = record("phantom", "cpu", arguments.out, rows=rows)
    for row in rows:
        wer = f"WER {row['word_errors']}/{row['words']}" if row["words"] else ""
        print(f"{row['model']:16} {row['engine']:26} other tokens {row['different_tokens']}, other text"
              f" {row['different']} of {row['clips']}  {wer}")  # fmt: skip
    print(path)


def decoders(folder: Path, generation: GenerationParams) -> dict[str, Callable[[], Decode]]:
    """The ways to decode, each made when it is called, so that one model at a time is in memory."""

    def make(dtype: torch.dtype, phantom_block: int | None) -> Decode:
        model = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True
        ).eval()
        arguments = generate_arguments(generation, model.generation_config)
        settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
        whisper = FusedWhisper(model, settings, CPU, dtype, phantom_block)
        return lambda one: whisper.generate(one).tokens

    return {
        REFERENCE: lambda: make(torch.float32, None),
        "kernl_phantom fp32": lambda: make(torch.float32, BLOCK),
        "fused fp16": lambda: make(torch.float16, None),
        "kernl_phantom fp16": lambda: make(torch.float16, BLOCK),
    }


def compare(
    folder: Path, generation: GenerationParams, clips: list[Path], spoken: dict[str, str]
) -> list[dict[str, Any]]:
    """A row for each way of decoding with the weights in `folder`, the reference first."""
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    normalise, _ = load_normaliser(folder)
    inputs = [features(clip, extractor) for clip in clips]
    outputs: dict[str, list[list[int]]] = {}
    for name, make in decoders(folder, generation).items():
        decode = make()
        outputs[name] = [decode(one) for one in tqdm(inputs, desc=f"{folder.name}, {name}", disable=None)]
        print(f"{folder.name}, {name}", file=sys.stderr, flush=True)
    exact = load(folder, CPU)
    arguments = generate_arguments(generation, exact.generation_config)
    judge = Judge(exact, prompt_tokens(exact, arguments), generation.length_penalty)
    limit = generation.max_length

    def text(tokens: list[int]) -> str:
        return normalise(tokenizer.decode(tokens, skip_special_tokens=True))

    rows = []
    for name, found in outputs.items():
        differ = []
        for clip, one, expected, tokens in zip(clips, inputs, outputs[REFERENCE], found, strict=True):
            if tokens != expected:
                pair = [Hypothesis(ids, len(ids) < limit) for ids in (expected, tokens)]
                scores = [scored.value for scored in judge.score(one, pair)]
                differ.append(
                    {"clip": clip.stem, "same_text": text(tokens) == text(expected), "reference": expected,
                     "engine": tokens, "reference_text": text(expected), "engine_text": text(tokens),
                     "reference_score": scores[0], "engine_score": scores[1], "gap": scores[1] - scores[0]}
                )  # fmt: skip
        errors = total(
            [
                word_errors(normalise(spoken[clip.stem]), text(tokens))
                for clip, tokens in zip(clips, found, strict=True)
                if clip.stem in spoken
            ]
        )
        rows.append(
            {
                "engine": name, "reference": REFERENCE, "model": folder.name, "beams": generation.num_beams,
                "clips": len(clips), "tokens": sum(len(tokens) for tokens in found), "different_tokens": len(differ),
                "different": sum(not entry["same_text"] for entry in differ),
                "ties": sum(abs(entry["gap"]) <= EPSILON["float16"] for entry in differ), "differ": differ,
                "word_errors": errors.errors, "words": errors.words,
            }
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
