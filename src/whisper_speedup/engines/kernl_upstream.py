"""Genuine Kernl (ELS-RD/kernl at 91e2cd9) as an engine: this end of the pipe to a worker in its own environment.

Kernl wants Python 3.10, torch 2.1.2, triton 2.1.0 and transformers 4.30.2, so it cannot live in our process. The
worker, kernl_worker.py, is started with the interpreter that the profile names, decodes, and times the notebook's
region itself: what passes through the pipe is no part of it. Beside Kernl, the worker's transformers differs from the
baseline's: docs/kernl-accuracy.md says in what.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from whisper_speedup.disk.progress import Progress
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.engines.json_lines import Partner
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import Section

WORKER = Path(__file__).with_name("kernl_worker.py")
# Seconds to wait for an answer. Starting imports torch from a cold disk; the first decode traces and captures a graph
# for each length, 13 minutes in the notebook for large-v2, and is known to hang (ELS-RD/kernl issues 213 and 272).
LIMITS_S = {"start": 300.0, "load": 1800.0, "generate": 7200.0}


class KernlUpstreamParams(Section):
    """`python` is the interpreter of Kernl's own environment (`make kernl-env`), null where there is none."""

    python: Annotated[str, Field(min_length=1)] | None = None


class KernlUpstream:
    """Sends features to the worker and takes tokens, seconds and memory from it."""

    name = "kernl_upstream"
    Params = KernlUpstreamParams
    dtype = "float32"  # of the weights as loaded, as the baseline says it; autocast and Kernl compute in fp16

    def __init__(self, params: KernlUpstreamParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []
        self.worker: Partner | None = None

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Start the worker and let it load the model. Raises UserError when Kernl cannot run here, or not this."""
        quiet_transformers()
        python = interpreter(self.params.python)
        check_device(device)
        config = WhisperConfig.from_pretrained(model_dir)
        shell = narrow_model(model_dir)
        self.arguments = generate_arguments(generation, shell.generation_config)
        self.prompt = prompt_tokens(shell, self.arguments)
        if None in self.prompt:
            raise UserError("generation.language is null, and Kernl's notebook never detects it: name a language.")
        self.limit = min(generation.max_length, config.max_target_positions - len(self.prompt))
        self.files = tempfile.TemporaryDirectory(prefix="kernl-")
        # -I keeps our PYTHONPATH and the user's own packages out of that environment.
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        self.worker = Partner("Kernl's process", [python, "-I", str(WORKER)], offline)
        try:
            self.found = self.worker.hear(LIMITS_S["start"])["ready"]
            request = {
                "do": "load", "model": str(model_dir.absolute()), "device": device.type, "prompt": self.prompt,
                "autocast": device.type == "cuda",
            }  # fmt: skip
            self.worker.ask(request, LIMITS_S["load"])
        except UserError:
            self.close()
            raise
        self.settings["commit"] = self.found["commit"]

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode to the length limit: Kernl makes a graph for each length that a timed decode can reach. transformers
        4.30 decodes the prompt token by token, so that is the prompt's tokens but one and the new ones."""
        lengths = len(self.prompt) + self.limit - 1
        with Progress("warming Kernl up", lengths, "length") as progress:
            self._ask(features, longest=True, progress=lambda _: progress.advance())

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000). `seconds` is the worker's own reading of the timed region."""
        answer = self._ask(features, longest=False)
        tokens = answer["tokens"]
        return Generation(tokens=tokens, score=None, truncated=len(tokens) >= self.limit, seconds=answer["seconds"])

    def process(self) -> dict[str, Any]:
        """The worker's memory after its last utterance, and its packages instead of ours."""
        packages = {name: self.found[name] for name in ("cuda", "numpy", "python", "torch", "transformers", "triton")}
        return {"memory": self.memory, "environment": dict(sorted({**fingerprint(), **packages}.items()))}

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()
            self.files.cleanup()
            self.worker = None

    def _ask(
        self, features: torch.Tensor, longest: bool, progress: Callable[[int], object] | None = None
    ) -> dict[str, Any]:
        assert self.worker is not None, "load first"
        path = Path(self.files.name, "features.npy")
        np.save(path, features.float().cpu().numpy())
        request = {"do": "generate", "features": str(path), "arguments": self._arguments(), "longest": longest}
        answer = self.worker.ask(request, LIMITS_S["generate"], progress)
        self.memory = answer["memory"]
        return answer

    def _arguments(self) -> dict[str, Any]:
        """What the worker's generate takes: language and task are in the prompt that it forces."""
        return {key: value for key, value in self.arguments.items() if key not in {"language", "task"}}


def interpreter(python: str | None) -> str:
    """The profile's interpreter, as a program that exists. Raises UserError."""
    how = "run `make kernl-env` and set measure.kernl_upstream.python to .venv-kernl/bin/python in the profile."
    if python is None:
        raise UserError(f"engine kernl_upstream needs an environment of its own, and the profile names none: {how}")
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UserError(f"measure.kernl_upstream.python is {python!r}, and no program is there: {how}")
    return found


def check_device(device: torch.device) -> None:
    """Raises UserError on a CPU: Kernl has nothing for it."""
    if device.type != "cuda":
        raise UserError(
            "engine kernl_upstream needs an NVIDIA GPU of compute capability 8.0 (Ampere) or newer, and this run is on"
            f" {device.type}: take it out of params.yaml's engines, or run on a machine with such a GPU."
        )


def narrow_model(model_dir: Path) -> WhisperForConditionalGeneration:
    """A random Whisper with the folder's vocabulary and generation config and one narrow layer.

    It says which prompt `generate` uses without reading gigabytes of weights, which are the worker's to read.
    """
    config = WhisperConfig.from_pretrained(model_dir)
    config.d_model = 8
    config.encoder_layers = config.decoder_layers = 1
    config.encoder_attention_heads = config.decoder_attention_heads = 1
    config.encoder_ffn_dim = config.decoder_ffn_dim = 8
    model = WhisperForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig.from_pretrained(model_dir)
    return model
