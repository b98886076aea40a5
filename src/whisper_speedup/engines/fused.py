"""Our engine behind the Protocol: packed weights, shared cross-attention, beam search of our own."""

from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import generate_arguments, quiet_transformers
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params import FusedParams, GenerationParams
from whisper_speedup.prompt import prompt_tokens


class Fused:
    """Decodes with FusedWhisper: the same tokens as transformers' `generate` with the same settings."""

    name = "fused"

    def __init__(self, params: FusedParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load and pack the weights. Raises UserError for settings that the engine does not serve."""
        quiet_transformers()
        dtype = torch.float16 if self._precision(device) == "half" else torch.float32
        model = WhisperForConditionalGeneration.from_pretrained(
            model_dir, dtype=dtype, attn_implementation="sdpa", use_safetensors=True
        )
        self.use(model, generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Pack a model that is already in memory, on any device; it may be freed afterwards."""
        precision = self.settings["precision"] = self._precision(device)
        self.device = device
        dtype = torch.float16 if precision == "half" else torch.float32
        self.dtype = str(dtype).removeprefix("torch.")
        model.eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.model: Any = None
        if precision == "half":
            # Triton is needed, and there, only on a GPU.
            from whisper_speedup.fused.device_model import DeviceWhisper, check_device, unserved
            from whisper_speedup.fused.launch import load_launch_config

            check_device(device)
            reason = unserved(settings)
            self.settings["path"] = "kernels" if reason is None else f"plain torch ({reason})"
            if reason is None:
                launch = load_launch_config(torch.cuda.get_device_name(device), model.config.d_model)
                self.settings["launch"] = launch.as_dict()
                self.model = DeviceWhisper(model, settings, device, dtype, launch)
        if self.model is None:
            self.model = FusedWhisper(model, settings, device, dtype)

    def _precision(self, device: torch.device) -> str:
        precision = self.params.precision
        if precision == "auto":
            precision = "half" if device.type == "cuda" else "float32"
        if device.type == "cpu" and precision == "half":
            raise UserError("measure.fused.precision is half, which needs a GPU: on a CPU say auto or float32.")
        return precision

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is once; on a GPU, compile and capture first."""
        self.model.warm_up(features)

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        best = self.model.generate(features)
        return Generation(tokens=best.tokens, score=best.score, truncated=not best.ended)

    def close(self) -> None:
        """Drop the model."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
