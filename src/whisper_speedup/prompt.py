"""The prompt that transformers' `generate` really uses for Whisper, asked of transformers itself."""

import threading
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from whisper_speedup.errors import UserError


class _PromptSeen(Exception):
    """Carries the first decoder input out of `generate`."""


def prompt_tokens(model: WhisperForConditionalGeneration, arguments: dict[str, Any]) -> list[int | None]:
    """The prompt that `generate` really uses, read from the decoder's first input.

    None stands for the language where transformers detects it anew for each utterance. Raises UserError for a
    language or task that the checkpoint does not know.
    """
    config = model.generation_config
    detects = (
        arguments.get("language") is None
        and getattr(config, "language", None) is None
        and getattr(config, "is_multilingual", True)
        and bool(getattr(config, "lang_to_id", None))
        and not _forces_language(model)
    )
    detections = 1 if detects else 0
    asking = threading.get_ident()

    def stop(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal detections
        if threading.get_ident() != asking:  # another thread decodes with the same model
            return
        if detections:  # the call that detects the language: start-of-transcript alone
            detections -= 1
            return
        raise _PromptSeen(kwargs["input_ids"][0].tolist())

    hook = model.model.decoder.register_forward_pre_hook(stop, with_kwargs=True)
    # Encoder states are given, so that nothing but the prompt is worked out.
    shape = (1, model.config.max_source_positions, model.config.d_model)
    states = BaseModelOutput(last_hidden_state=torch.zeros(shape, device=model.device, dtype=model.dtype))
    try:
        with torch.no_grad():
            model.generate(encoder_outputs=states, **arguments)
    except _PromptSeen as seen:
        prompt: list[int | None] = seen.args[0]
        return [prompt[0], None, *prompt[2:]] if detects else prompt
    except ValueError as error:
        raise UserError(f"generation: {' '.join(str(error).split())}") from None
    finally:
        hook.remove()
    raise UserError("generation: transformers never called the decoder, so its prompt is unknown.")


def _forces_language(model: WhisperForConditionalGeneration) -> bool:
    """Whether old-style forced_decoder_ids name the language (position 1)."""
    forced: Any = getattr(model.generation_config, "forced_decoder_ids", None)
    forced = forced if forced is not None else getattr(model.config, "forced_decoder_ids", None)
    return bool(forced) and forced[0][0] == 1 and forced[0][1] is not None
