"""Kernl's own way on today's stack: transformers' loop, its decoder replaced by `optimize_model`.

The notebook's call is `optimize_model(model.model.decoder)`; beam search, logits processors and everything around them
stay transformers'. So what this engine saves over the baseline is the decoder alone, and what `fused` saves beyond it
is the loop.
"""

from typing import Literal

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.errors import UserError
from whisper_speedup.optimize.public import decoder_path, last_path, optimize_model
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import Section


class KernlParams(Section):
    """`auto` is fp16 on CUDA and fp32 on a CPU; `autocast` is the notebook's: fp32 weights, fp16 autocast."""

    precision: Literal["auto", "autocast", "half", "float32"] = "auto"


class Kernl(HuggingFace):
    """The baseline's engine with an optimised decoder. run.json's `path` says what runs behind the cache."""

    name = "kernl"
    on_gpu = "half"
    Params = KernlParams

    def __init__(self, params: KernlParams) -> None:
        super().__init__(BaselineParams(precision=params.precision))
        self.settings = params.model_dump()

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Run on a model that is already in memory, in the dtype that the precision asks for."""
        super().use(model, generation, device)
        optimize_model(self.model.model.decoder)

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is once; on a GPU, that compiles the kernels and captures their graph."""
        super().warm_up(features)
        decoder = self.model.model.decoder
        taken, path = last_path(decoder), decoder_path(decoder)
        if path is None or taken is None or taken.path != "decoder":
            reason = "it was not called" if taken is None else taken.reason
            raise UserError(f"engine kernl cannot run its decoder here, because {reason}: take it out of params.yaml.")
        self.settings["path"] = "plain torch" if path.kernels is None else "kernels"
        if path.kernels is not None:
            self.settings["launch"] = path.kernels.launch.as_dict()
