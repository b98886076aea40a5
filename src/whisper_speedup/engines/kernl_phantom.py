"""Our plain decoder with Kernl's masking of cross-attention keys, its one difference from `fused` without kernels.

It is here for the text, not for speed: what it changes, Kernl's masking changes (docs/kernl-accuracy.md).
"""

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines import precision
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.phantom import BLOCK
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params.profile import GenerationParams


class KernlPhantom(Fused):
    """Decodes with FusedWhisper and phantom keys in every block of cross-attention that is not full."""

    Params = PrecisionParams

    def __init__(self, params: PrecisionParams) -> None:
        super().__init__(FusedParams(precision=params.precision), "kernl_phantom")
        self.settings = {**params.model_dump(), "key_block": BLOCK}

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Pack a model that is already in memory, on any device; it may be freed afterwards."""
        chosen = self.settings["precision"] = self._check(device)
        dtype = torch.float16 if chosen == "half" else torch.float32
        self.device = device
        self.dtype = str(dtype).removeprefix("torch.")
        model.eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.model = FusedWhisper(model, settings, device, dtype, phantom_block=BLOCK)

    def _check(self, device: torch.device) -> str:
        return precision.resolve(self.name, self.params.precision, device, on_gpu="half")
