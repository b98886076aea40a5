"""Our plain decoder with Kernl's masking of cross-attention keys, its one difference from `fused` without kernels.

It is here for the text, not for speed: what it changes, Kernl's masking changes (docs/kernl-accuracy.md).
"""

from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.engines import precision
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.phantom import BLOCK
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.measure.parts import Stopwatch, unwatched
from whisper_speedup.params.profile import GenerationParams


class KernlPhantom:
    """Decodes with FusedWhisper and phantom keys in every block of cross-attention that is not full."""

    name = "kernl_phantom"
    Params = PrecisionParams

    def __init__(self, params: PrecisionParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = {**params.model_dump(), "key_block": BLOCK}
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load and pack the weights. Raises UserError for settings that the engine does not serve."""
        quiet_transformers()
        dtype = torch.float16 if self._precision(device) == "half" else torch.float32
        self.use(load_model(model_dir, dtype, "sdpa"), generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Pack a model that is already in memory, on any device; it may be freed afterwards."""
        chosen = self.settings["precision"] = self._precision(device)
        dtype = torch.float16 if chosen == "half" else torch.float32
        self.device = device
        self.dtype = str(dtype).removeprefix("torch.")
        model.eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.model = FusedWhisper(model, settings, device, dtype, phantom_block=BLOCK)

    def _precision(self, device: torch.device) -> str:
        return precision.resolve("kernl_phantom", self.params.precision, device, on_gpu="half")

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is once."""
        self.model.warm_up(features)

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        best = self.model.generate(features)
        return Generation(tokens=best.tokens, score=best.score, truncated=not best.ended)

    def watch(self, stopwatch: Stopwatch | None) -> None:
        """Time encoder, prompt and steps of what is decoded from now on."""
        self.model.part = unwatched if stopwatch is None else stopwatch.part

    def close(self) -> None:
        """Drop the model."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
