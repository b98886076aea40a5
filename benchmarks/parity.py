"""Does an engine give the same token ids as transformers? Real weights, real speech, one JSON a run.

    python benchmarks/parity.py --models build/models/bundled-tiny.en --clips samples --beams 1 2 5

A row of the result compares `engine` with `reference`, Hugging Face in fp32, on every clip of every folder given;
`differ` lists the clips whose token ids are not equal, with both hypotheses' scores under the reference model. On a GPU
Hugging Face's own half-precision variants are compared too: the yardstick for ours.

Each variant's token ids are kept in `--outputs` and read from there when the same variant, model, settings and clips
come again, so that a run that was stopped goes on, several processes can share the work (`--decode-only NAME`), and a
reference decoded on one machine serves another, and what a GPU decoded is compared on a machine without one
(`--variants-of cuda`). A row says on what device each side was decoded.

The engines with weights in 8 bits run only where --variants names them, against Hugging Face as it is, which shows what
rounding changes, or with the same rounded weights, which an engine must equal:

    python benchmarks/parity.py --models ... --clips ... --variants "huggingface fp32" fused_int8 fused_fp8
    python benchmarks/parity.py --models ... --clips ... --variants "huggingface fp32, int8 weights" fused_int8
"""

import argparse
import gc
import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params, measure_params
from speech import clips_in, features
from tqdm import tqdm
from transformers import WhisperFeatureExtractor
from whole_model import WholeModel

from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.compare.judge import Hypothesis, Judge, load
from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.engines.create import create
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens
from whisper_speedup.fused.rounded_model import round_weights
from whisper_speedup.measure.environment import fingerprint


def main() -> None:
    """Run the comparison and write benchmarks/results/parity-DATE-DEVICE.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="Hugging Face folders")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="folders of 16 kHz FLAC or WAV files")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 2, 5])
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--outputs", type=Path, default=Path("build/parity"), help="where token ids are kept")
    parser.add_argument("--variants", nargs="+", help="of these only, the reference first", metavar="NAME")
    parser.add_argument("--variants-of", choices=list(VARIANTS), help="another kind of device: its outputs are kept")
    parser.add_argument("--decode-only", action="store_true", help="keep the token ids and compare nothing")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = clips_in(arguments.clips)
    known = VARIANTS[arguments.variants_of or device.type]
    named = {**FORMATS, **known} if arguments.variants else known
    variants = {name: v for name, v in named.items() if name in (arguments.variants or [name])}
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        for beams in arguments.beams:
            work = Work(model, beams, arguments.max_length, clips, device, arguments.outputs)
            outputs = {name: work.decode(name, variant) for name, variant in variants.items()}
            if not arguments.decode_only:
                rows += work.compare(outputs)
    if arguments.decode_only:
        return
    path = record("parity", device_label(device), arguments.out, rows=rows)
    for row in rows:
        gaps = ", ".join(f"{entry['clip']} {entry['gap']:+.2e}" for entry in row["differ"])
        print(f"{row['model']:16} {row['beams']} beams  {row['engine']:28} differs in {len(row['differ'])} of"
              f" {row['clips']}, ties {row['ties']}  {gaps}")  # fmt: skip
    print(path)


# What is compared on each kind of device; the first is the reference.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {
        "huggingface fp32": {"engine": "huggingface", "precision": "float32"},
        "kernl": {"engine": "kernl"},
        "optimize_model(model)": {"engine": "optimize_model(model)"},
        "fused": {"engine": "fused"},
    },
    "cuda": {
        "huggingface fp32": {"engine": "huggingface", "precision": "float32"},
        "huggingface autocast": {"engine": "huggingface", "precision": "autocast"},
        "huggingface autocast again": {"engine": "huggingface", "precision": "autocast"},
        "huggingface autocast eager": {"engine": "huggingface", "precision": "autocast", "attention": "eager"},
        "huggingface half": {"engine": "huggingface", "precision": "half"},
        "kernl": {"engine": "kernl"},
        "kernl autocast": {"engine": "kernl", "kernl": "autocast"},
        "optimize_model(model)": {"engine": "optimize_model(model)"},
        "fused": {"engine": "fused"},
    },
}

# Named or left out. `weights`: rounded in Hugging Face's model, which is the first, and so the reference, where named.
FORMATS: dict[str, dict[str, Any]] = {
    "huggingface fp32, int8 weights": {"engine": "huggingface", "precision": "float32", "weights": "int8"},
    "huggingface fp32, fp8 weights": {"engine": "huggingface", "precision": "float32", "weights": "fp8"},
    "huggingface fp32": {"engine": "huggingface", "precision": "float32"},
    "fused_int8": {"engine": "fused_int8"},
    "fused_fp8": {"engine": "fused_fp8"},
}


class Work:
    """One model and number of beams over the clips: decodes them, or reads what was decoded before, and compares."""

    def __init__(
        self, model: Path, beams: int, max_length: int, clips: list[Path], device: torch.device, kept: Path
    ) -> None:
        self.model, self.clips, self.device, self.kept = model, clips, device, kept
        self.generation = generation_params(beams, max_length)
        extractor = WhisperFeatureExtractor.from_pretrained(model)
        self.inputs = [features(clip, extractor) for clip in clips]
        digest = hashlib.sha256(f"{self.generation.model_dump_json()} {[c.stem for c in clips]}".encode())
        for file in [*clips, model / "model.safetensors"]:
            digest.update(file.read_bytes())
        self.key = digest.hexdigest()

    def decode(self, name: str, variant: dict[str, Any]) -> dict[str, Any]:
        """`tokens` of every clip with one variant, and the `device` that decoded them."""
        path = self.kept / f"{self.model.name}-{self.generation.num_beams}-{name.replace(' ', '-')}.json"
        if path.is_file() and (known := read_json(path))["key"] == self.key:
            return known
        settings = dict(variant)
        engine_name, weights = settings.pop("engine"), settings.pop("weights", None)
        measure = measure_params(self.device.type, **settings)
        engine: Any = WholeModel() if engine_name == "optimize_model(model)" else create(engine_name, measure)
        if weights is None:
            engine.load(self.model, self.generation, self.device)
        else:
            rounded = round_weights(load_model(self.model, torch.float32, "sdpa"), weights)
            engine.use(rounded, self.generation, self.device)
        inputs = [one.to(self.device) for one in self.inputs]
        engine.warm_up(inputs[0])
        label = f"{self.model.name}, {self.generation.num_beams} beams, {name}"
        tokens = [engine.generate(one).tokens for one in tqdm(inputs, desc=label, disable=None)]
        print(label, file=sys.stderr, flush=True)
        engine.close()
        gc.collect()
        result = {"key": self.key, "device": device_name(self.device), "tokens": tokens}
        write_json(path, result)
        return result

    def compare(self, outputs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """A row for each variant but the first, with the scores of every differing clip's two hypotheses."""
        reference_name, *others = outputs
        reference = outputs[reference_name]
        exact = load(self.model, self.device)
        if weights := {**FORMATS, **VARIANTS["cuda"]}[reference_name].get("weights"):
            round_weights(exact, weights)  # a tie is one of the rounded model's
        arguments = generate_arguments(self.generation, exact.generation_config)
        judge = Judge(exact, prompt_tokens(exact, arguments), self.generation.length_penalty)
        rows = []
        for name in others:
            # Hugging Face's and our half-precision variants run on GPUs alone.
            coarsest = "float32" if outputs[name]["device"] == str(fingerprint()["cpu"]) else "float16"
            differ = []
            for clip, one, expected, found in zip(
                self.clips, self.inputs, reference["tokens"], outputs[name]["tokens"], strict=True
            ):
                if expected != found:
                    pair = [
                        Hypothesis(tokens, len(tokens) < self.generation.max_length) for tokens in (expected, found)
                    ]
                    before, after = (scored.value for scored in judge.score(one, pair))
                    differ.append(
                        {"clip": clip.stem, "reference": expected, "engine": found, "reference_score": before,
                         "engine_score": after, "gap": after - before}
                    )  # fmt: skip
            rows.append(
                {
                    "engine": name, "reference": reference_name, "model": self.model.name,
                    "beams": self.generation.num_beams, "clips": len(self.clips),
                    "tokens": sum(len(tokens) for tokens in reference["tokens"]), "differ": differ,
                    "ties": sum(abs(entry["gap"]) <= EPSILON[coarsest] for entry in differ),
                    "device": outputs[name]["device"], "reference_device": reference["device"],
                }
            )  # fmt: skip
        return rows


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(fingerprint()["cpu"])


if __name__ == "__main__":
    main()
