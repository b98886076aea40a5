"""`optimize_model` and its undoing."""

from typing import Any

import torch
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.errors import UserError
from whisper_speedup.optimize.decoder_path import DecoderPath, PathTaken
from whisper_speedup.optimize.stand_in import plain_type, state_of
from whisper_speedup.optimize.watch import why_changed
from whisper_speedup.optimize.whole_model import WholeModel


def optimize_model(model: WhisperForConditionalGeneration | WhisperDecoder) -> None:
    """Make `generate` faster, in place; what it takes and what it returns stay as they are.

    Given a Whisper's decoder (`model.model.decoder`), replaces the decoder's forward. Given the whole model, replaces
    its `generate` too: where the arguments allow it, the whole decode runs here, beam search included. Weights may
    change afterwards, in whatever way: each call looks at them (watch.py). Raises UserError for anything that is not a
    plain transformers Whisper.
    """
    decoder = _decoder(model)
    reason = why_changed(decoder)
    # Training mode is for each call to look at: it ends with model.eval().
    if reason is not None and not reason.endswith("is in training mode"):
        raise UserError(f"optimize_model takes a plain transformers Whisper, and here {reason}: leave it as it is.")
    restore_model(model)
    if "forward" in vars(decoder):
        raise UserError(
            "optimize_model found another forward in the place of the decoder's own (accelerate's device_map or another"
            " tool put it there): undo that, or leave the model as it is."
        )
    path = DecoderPath(decoder)
    path.install()
    if isinstance(model, WhisperForConditionalGeneration):
        WholeModel(model, path).install()


def restore_model(model: WhisperForConditionalGeneration | WhisperDecoder) -> None:
    """Undo optimize_model; nothing happens where there is nothing to undo. Raises UserError for other objects."""
    path = decoder_path(_decoder(model))
    if path is not None:
        path.remove()
    whole = whole_model(model)
    if whole is not None:
        whole.remove()


def explain_path(model: WhisperForConditionalGeneration, *args: Any, **kwargs: Any) -> PathTaken:
    """Which path `model.generate(*args, **kwargs)` would take, and why, without decoding."""
    whole = whole_model(model)
    if whole is None:
        if decoder_path(_decoder(model)) is None:
            return PathTaken("original", "optimize_model was not called")
        return PathTaken("decoder", "optimize_model was called on the decoder alone")
    return whole.choose(args, kwargs).taken


def last_path(model: WhisperForConditionalGeneration | WhisperDecoder) -> PathTaken | None:
    """Which path the last `generate` took, and why (given a decoder: its last forward); None before the first."""
    whole = whole_model(model)
    if whole is not None:
        return whole.last
    path = decoder_path(_decoder(model))
    return path.last if path is not None else None


def decoder_path(decoder: WhisperDecoder) -> DecoderPath | None:
    """What optimize_model put into a decoder, or None."""
    return state_of(decoder)


def whole_model(model: Any) -> WholeModel | None:
    """What optimize_model put into a whole model, or None."""
    return state_of(model) if isinstance(model, WhisperForConditionalGeneration) else None


def _decoder(model: Any) -> WhisperDecoder:
    decoder = model.model.decoder if isinstance(model, WhisperForConditionalGeneration) else model
    if plain_type(decoder) is WhisperDecoder:
        return decoder
    what = f"not a {type(model).__name__}" if decoder is model else f"and the decoder of this one is a {_name(decoder)}"
    raise UserError(
        "optimize_model takes a transformers WhisperForConditionalGeneration or its model.model.decoder,"
        f" {what}: give it one of those."
    )


def _name(decoder: Any) -> str:
    compiled = isinstance(decoder, torch._dynamo.eval_frame.OptimizedModule)
    return "compiled module (torch.compile)" if compiled else type(decoder).__name__
