"""Kernl's own way on today's stack: transformers' loop, its decoder replaced by `optimize_model`.

The notebook's call is `optimize_model(model.model.decoder)`; beam search, logits processors and everything around them
stay transformers'. So what this engine saves over the baseline is the decoder alone, and what `fused` saves beyond it
is the loop.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines import precision
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.optimize.public import decoder_path, last_path, optimize_model
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import Section


class KernlParams(Section):
    """`auto` is fp16 on CUDA and fp32 on a CPU; `autocast` is the notebook's own: fp32 weights under
    `torch.autocast(float16)`.
    """

    precision: Literal["auto", "autocast", "half", "float32"] = "auto"


class Kernl:
    """The baseline's engine with an optimised decoder. run.json's `path` says what runs behind the cache."""

    name = "kernl"
    Params = KernlParams

    def __init__(self, params: KernlParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load the model in the precision that the profile names. Raises UserError where the device has none such."""
        self.inner = self._loop(device)
        self.inner.load(model_dir, generation, device)
        self._optimise()

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Run on a model that is already in memory, in the dtype that the precision asks for."""
        self.inner = self._loop(device)
        self.inner.use(model, generation, device)
        self._optimise()

    def _optimise(self) -> None:
        self.prompt, self.dtype = self.inner.prompt, self.inner.dtype
        optimize_model(self.inner.model.model.decoder)

    def _loop(self, device: torch.device) -> HuggingFace:
        """transformers' loop, unchanged."""
        chosen = precision.resolve(self.name, self.params.precision, device, on_gpu="half")
        self.settings["precision"] = chosen
        return HuggingFace(BaselineParams(precision=chosen))

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is once; on a GPU, that compiles the kernels and captures their graph."""
        self.inner.warm_up(features)
        decoder = self.inner.model.model.decoder
        taken, path = last_path(decoder), decoder_path(decoder)
        if path is None or taken is None or taken.path != "decoder":
            reason = "it was not called" if taken is None else taken.reason
            raise UserError(f"engine kernl cannot run its decoder here, because {reason}: take it out of params.yaml.")
        self.settings["path"] = "plain torch" if path.kernels is None else "kernels"
        if path.kernels is not None:
            self.settings["launch"] = path.kernels.launch.as_dict()

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        return self.inner.generate(features)

    def watch(self, stopwatch: Stopwatch | None) -> None:
        """Time encoder, prompt and steps of what is decoded from now on."""
        self.inner.watch(stopwatch)

    def close(self) -> None:
        """Drop the model."""
        self.inner.close()
