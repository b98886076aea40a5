"""optimize_model(model) as the scripts here drive an engine: the user's own model, and its `generate`."""

from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup import last_path, optimize_model
from whisper_speedup.engines.huggingface import generate_arguments
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.optimize.public import whole_model
from whisper_speedup.params.profile import GenerationParams


class WholeModel:
    """Calls model.generate, and makes sure that the fused engine answered."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Optimise the folder's model, in fp16 on a GPU and fp32 on a CPU."""
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        model = WhisperForConditionalGeneration.from_pretrained(model_dir, dtype=dtype, use_safetensors=True)
        self.use(model, generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Optimise a model that is already in memory."""
        self.whisper = model.to(device).eval()  # type: ignore[arg-type]
        self.arguments = generate_arguments(generation, model.generation_config)
        self.settings["precision"] = str(model.dtype)
        optimize_model(model)

    def warm_up(self, features: torch.Tensor) -> None:
        """The first call packs, compiles and captures; `model`: what it made, the fused engine."""
        self.generate(features)
        found = whole_model(self.whisper)
        assert found is not None
        (self.model,) = found.runners.values()

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        tokens = self.whisper.generate(features.to(self.whisper.dtype), **self.arguments)[0].tolist()
        taken = last_path(self.whisper)
        assert taken is not None
        assert taken.path == "whole model", taken
        return Generation(tokens=tokens, score=None, truncated=False)

    def close(self) -> None:
        """Drop the model."""
        del self.whisper, self.model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
