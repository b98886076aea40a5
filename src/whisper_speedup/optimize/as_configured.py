"""Whether a Whisper encoder or decoder is built as its configuration says.

Our arithmetic reads heads, widths and the causal mask from the configuration, transformers' from each part. So the
model is compared, part by part, with one that its configuration makes (without memory): the same parts of the same
types in the same places, weights of the same shapes, the same settings.
"""

import functools
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

# What changes nothing in evaluation mode; `eps` is the caller's to read.
IDLE = {"training", "dropout", "activation_dropout", "padding_idx", "eps"}
# What the configuration says about how a model is built.
BUILT = (
    "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
    "encoder_ffn_dim", "decoder_ffn_dim", "max_source_positions", "max_target_positions", "num_mel_bins", "vocab_size",
    "activation_function", "scale_embedding",
)  # fmt: skip


class Part(NamedTuple):
    """A module as the configuration makes it."""

    kind: type
    shapes: dict[str, torch.Size | None]
    settings: dict[str, Any]


def why_otherwise(model: PreTrainedModel) -> str | None:
    """What sets an encoder or decoder apart from one that its configuration makes, or None."""
    kind = WhisperDecoder if isinstance(model, WhisperDecoder) else WhisperEncoder
    try:
        wanted = _parts(kind, **{name: getattr(model.config, name) for name in BUILT})
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, ZeroDivisionError):
        return "its configuration is not one of a Whisper"
    found = dict(model.named_modules(remove_duplicate=False))
    for name, part in wanted.items():
        reason = _why_other(found.get(name), part) if name else None
        if reason is not None:
            return f"{name} {reason}"
    more = found.keys() - wanted.keys()
    return f"{min(more)} is not in its configuration" if more else None


def _why_other(module: torch.nn.Module | None, part: Part) -> str | None:
    if module is None or type(module) is not part.kind:
        return f"is a {type(module).__name__}"
    for name, value in part.settings.items():
        if getattr(module, name, None) != value:
            return f"has {name} {getattr(module, name, None)}, not {value}"
    for name, shape in part.shapes.items():
        weight = getattr(module, name, None)
        if weight is not module._parameters.get(name):
            return f"has a {name} that is no parameter"
        if (None if weight is None else weight.shape) != shape:
            return f"has a {name} of another shape"
    return None


@functools.lru_cache(maxsize=8)
def _parts(kind: type[WhisperEncoder] | type[WhisperDecoder], **built: Any) -> dict[str, Part]:
    tokens: dict[str, Any] = dict.fromkeys(
        ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0
    )
    config = WhisperConfig(**built, **tokens, attn_implementation="eager")
    with torch.device("meta"):
        return {name: _part(module) for name, module in kind(config).named_modules(remove_duplicate=False)}


def _part(module: torch.nn.Module) -> Part:
    shapes = {name: None if weight is None else weight.shape for name, weight in module._parameters.items()}
    settings = {
        name: value
        for name, value in vars(module).items()
        if name not in IDLE and not name.startswith("_") and isinstance(value, bool | int | float | str | tuple | None)
    }
    return Part(type(module), shapes, settings)
