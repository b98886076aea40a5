"""Our engine behind the Protocol: packed weights, shared cross-attention, beam search of our own."""

from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params import FusedParams, GenerationParams


class Fused:
    """Decodes with FusedWhisper: the same tokens as transformers' `generate` with the same settings."""

    name = "fused"

    def __init__(self, params: FusedParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load and pack the weights. Raises UserError for settings that the engine does not serve."""
        precision = self.params.precision
        if precision == "auto":
            precision = "half" if device.type == "cuda" else "float32"
        if device.type == "cpu" and precision == "half":
            raise UserError("measure.fused.precision is half, which needs a GPU: on a CPU say auto or float32.")
        self.settings["precision"] = precision
        self.device = device
        quiet_transformers()
        dtype = torch.float16 if precision == "half" else torch.float32
        self.dtype = str(dtype).removeprefix("torch.")
        model = WhisperForConditionalGeneration.from_pretrained(
            model_dir, dtype=dtype, attn_implementation="sdpa", use_safetensors=True
        ).eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.model = FusedWhisper(model, settings, device, dtype)

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode to the length limit once: end-of-text forbidden, as the notebook does."""
        self.model.generate(features, longest=True)

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        best = self.model.generate(features)
        return Generation(tokens=best.tokens, score=best.score, truncated=not best.ended)

    def close(self) -> None:
        """Drop the model."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
