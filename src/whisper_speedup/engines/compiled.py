"""What transformers' own `generate` gives with its static cache and `torch.compile`, beams included.

`generate(cache_implementation="static")` takes beams, but compiles itself only without them: `_beam_search` of
transformers 5.17 calls the model and not its compiled call, and takes no notice of `compile_config`. So the decoder's
forward is compiled here, for the steps (one token a beam) alone; the prompt's call makes the cache and stays as it is,
which is what transformers' StaticLayer asks for. The encoder is compiled too. Beam search, logits processors and the
choice of beams stay transformers' and are not compiled.

Not allowed: CUDA graphs (mode `reduce-overhead`, transformers' default). Beam search reorders a static cache by making
new tensors at each step, and a graph can update only tensors that stay where they are; torch leaves graphs out then.
The reorder copies the cross-attention keys and values too (transformers issue 28357), as the baseline's does. A step
attends over the whole cache, as long as `max_length` and the prompt, and masks what is not there yet.
"""

from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams


class Compiled(HuggingFace):
    """The baseline's engine with a static cache and compiled forwards. `backend`: torch.compile's."""

    name = "compiled"
    on_gpu = "half"
    Params = PrecisionParams

    def __init__(self, params: PrecisionParams, backend: str = "inductor") -> None:
        super().__init__(BaselineParams(precision=params.precision))
        self.settings = {**params.model_dump(), "cache": "static", "backend": backend}

    def _precision(self, device: torch.device) -> str:
        if device.type == "cpu" and self.settings["backend"] == "inductor":
            _check_compiler()
        return super()._precision(device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Run on a model that is already in memory; the first decode compiles: minutes for a large model."""
        super().use(model, generation, device)
        # Without beams `generate` would compile the whole model around what is compiled here.
        self.arguments |= {"cache_implementation": "static", "disable_compile": True}
        whole = self.model.model
        whole.encoder.forward = self._compiled(whole.encoder.forward)
        prompt_forward = whole.decoder.forward
        step_forward = self._compiled(prompt_forward)

        def forward(*args: Any, **kwargs: Any) -> Any:
            cache = kwargs["past_key_values"]
            # is_updated says of each layer whether it has its cross-attention keys: none before the prompt.
            return (step_forward if cache.is_updated.get(0) else prompt_forward)(*args, **kwargs)

        whole.decoder.forward = forward

    def _compiled(self, forward: Any) -> Any:
        return torch.compile(forward, backend=self.settings["backend"], dynamic=False)


def _check_compiler() -> None:
    """Raise UserError where torch.compile finds no C++ compiler, which it needs for a CPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch._inductor.exc.InvalidCxxCompiler, whose place differs between releases
        raise UserError(
            "engine compiled needs a C++ compiler on a CPU and torch finds none: install g++, or take compiled out of "
            "params.yaml."
        ) from error
