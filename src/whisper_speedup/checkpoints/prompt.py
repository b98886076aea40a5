"""The prompt that transformers' `generate` really uses for Whisper, asked of transformers itself."""

import copy
import functools
from typing import Any

import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from whisper_speedup.errors import UserError, detail


class _PromptSeen(Exception):
    """Carries the first decoder input out of `generate`."""


def prompt_tokens(model: WhisperForConditionalGeneration, arguments: dict[str, Any]) -> list[int | None]:
    """The prompt that `generate(**arguments)` really uses, read from the decoder's first input.

    None stands for the language where transformers detects it again for each utterance. Raises UserError for a
    language or task that the checkpoint does not know, and for whatever else transformers refuses.
    """
    detected = False

    @functools.wraps(type(model).forward)
    def seen(**inputs: Any) -> None:
        raise _PromptSeen(inputs["decoder_input_ids"][0].tolist())

    def detect(*_: Any, generation_config: GenerationConfig, **__: Any) -> torch.Tensor:
        nonlocal detected
        detected = True
        if generation_config.decoder_start_token_id is None:  # which `generate` would replace, and this does not
            raise TypeError("decoder_start_token_id is None, and the language is to be detected")
        if getattr(generation_config, "no_timestamps_token_id", None) in generation_config.lang_to_id.values():
            raise ValueError(
                "a language to be detected has the id of no_timestamps, so the prompt's length is not known"
            )
        return torch.zeros(1, dtype=torch.int64)

    # A shallow copy, asked in the model's place: it shares the modules, and nobody else's calls come by.
    asked = copy.copy(model)
    vars(asked).update(forward=seen, detect_language=detect)
    # Encoder states are given, so that nothing but the prompt is worked out.
    shape = (1, model.config.max_source_positions, model.config.d_model)
    states = BaseModelOutput(last_hidden_state=torch.zeros(shape, device=model.device, dtype=model.dtype))
    try:
        with torch.no_grad():
            asked.generate(encoder_outputs=states, **arguments)
    except _PromptSeen as caught:
        prompt: list[int | None] = caught.args[0]
        return [prompt[0], None, *prompt[2:]] if detected else prompt
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(f"generation: {detail(error)}") from None
    raise UserError("generation: transformers never called the decoder, so its prompt is unknown.")
