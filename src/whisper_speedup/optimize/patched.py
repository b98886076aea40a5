"""What somebody put into transformers' classes in the place of their own methods.

`cls.forward = other` or `ALL_ATTENTION_FUNCTIONS.register("sdpa", other)` changes every model at once and leaves no
trace on any of them. We then decode as transformers does: by calling it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.module import _has_any_global_hook
from transformers import GenerationMixin, WhisperForConditionalGeneration
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.whisper import modeling_whisper as whisper
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

# What Whisper is made of.
PARTS = {
    whisper.WhisperDecoderLayer, whisper.WhisperEncoderLayer, whisper.WhisperAttention,
    whisper.WhisperPositionalEmbedding, torch.nn.ModuleList, torch.nn.Linear, torch.nn.Conv1d, torch.nn.LayerNorm,
    torch.nn.Embedding, type(ACT2FN["gelu"]),
}  # fmt: skip
HOLDERS = (whisper.WhisperEncoder, whisper.WhisperDecoder, whisper.WhisperModel, WhisperForConditionalGeneration)
# All compute the same attention. Another name is a function that somebody registered.
ATTENTION = (None, "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
FUNCTIONS = ("scaled_dot_product_attention", "linear", "layer_norm", "gelu", "conv1d", "embedding")
THEIRS = ("transformers", "torch")


def _forwards() -> dict[str, Callable[..., Any] | None]:
    """What a Whisper's forward calls, by the name that a reader knows it by."""
    kinds = (*PARTS, *HOLDERS)
    found: dict[str, Callable[..., Any] | None] = {
        f"the forward of every {kind.__name__}": kind.forward for kind in kinds
    }
    found |= {f"the call of every {kind.__name__}": kind.__call__ for kind in kinds}
    found |= {f"torch.nn.functional.{name}": getattr(torch.nn.functional, name) for name in FUNCTIONS}
    found |= {f"the attention {name}": ALL_ATTENTION_FUNCTIONS.get(name) for name in ATTENTION if name}
    return found | {"eager attention": whisper.eager_attention_forward}


def _methods() -> dict[str, Any]:
    """What decides what `generate` returns, likewise."""
    return {
        f"{name} of every Whisper": value
        for kind in (GenerationMixin, WhisperGenerationMixin, WhisperForConditionalGeneration)
        for name, value in vars(kind).items()
        if callable(value)
    }


AT_IMPORT = _forwards() | _methods()
# Whoever came before us wrote his function in a module that is neither transformers' nor PyTorch's.
BEFORE = [
    name for name, value in AT_IMPORT.items() if str(getattr(value, "__module__", "torch")).split(".")[0] not in THEIRS
]


def everywhere() -> list[Any]:
    """Changes when somebody changes the forward of every model at once."""
    return [*_forwards().values(), _has_any_global_hook()]


def generating() -> list[Any]:
    """Changes when somebody changes what else `generate` of every model calls."""
    return list(_methods().values())


def why_patched(methods: bool = False) -> str | None:
    """What of all models somebody replaced, or None. `methods`: what `generate` calls counts, too."""
    now = _forwards() | (_methods() if methods else {})
    for name, value in now.items():
        if name in BEFORE or AT_IMPORT.get(name) is not value:
            return f"something replaced {name}"
    return "there is a hook on every module" if _has_any_global_hook() else None
