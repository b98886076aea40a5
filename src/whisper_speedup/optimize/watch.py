"""Whether a module is still one that our arithmetic equals, and whether its weights are still those we packed.

A user may train, cast, move or adapt a model between two calls of `generate`. `marks` is what a call can afford to
look at: 910 modules and 1259 weights of a large-v2, on the host and before the GPU starts, so its loops are few and
short. When it differs from last time, `why_changed` looks at everything.
"""

from operator import attrgetter
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.models.whisper.modeling_whisper import (
    WhisperAttention,
    WhisperDecoderLayer,
    WhisperEncoderLayer,
    WhisperPositionalEmbedding,
)

# What Whisper is made of. An adapter, a quantised or a parametrised module is of another type.
PARTS = {
    WhisperDecoderLayer, WhisperEncoderLayer, WhisperAttention, WhisperPositionalEmbedding, torch.nn.ModuleList,
    torch.nn.Linear, torch.nn.Conv1d, torch.nn.LayerNorm, torch.nn.Embedding, type(ACT2FN["gelu"]),
}  # fmt: skip
VERSION = attrgetter("_version")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def marks(module: torch.nn.Module) -> list[Any]:
    """Changes when a weight is replaced, moved, cast or written to (but not when it is written to through `.data`),
    when a module in it is replaced, hooked or given another forward, and with training mode."""
    modules, states = [module], []
    for one in modules:  # grows meanwhile
        state = vars(one)
        states.append(state)
        if state["_modules"]:
            modules += [child for child in state["_modules"].values() if child is not None]
    hooks = [  # their ids, which are never used twice
        (number, *state["_forward_hooks"], *state["_forward_pre_hooks"], *state["_backward_hooks"])
        for number, state in enumerate(states)
        if state["_forward_hooks"] or state["_forward_pre_hooks"] or state["_backward_hooks"]
    ]
    weights = [weight for state in states for weight in state["_parameters"].values() if weight is not None]
    training, forward = [state["training"] for state in states], ["forward" in state for state in states]
    return [list(map(type, modules)), training, forward, hooks, list(map(torch.Tensor.data_ptr, weights)),
            _versions(weights)]  # fmt: skip


def _versions(weights: list[torch.Tensor]) -> list[int]:
    """How often each was written to; nobody counts that of a tensor that inference_mode made."""
    try:
        return list(map(VERSION, weights))
    except RuntimeError:
        return [0 if weight.is_inference() else weight._version for weight in weights]


def why_changed(model: PreTrainedModel) -> str | None:
    """Why a Whisper encoder or decoder is not (or no longer) a plain one on one device, or None."""
    config = model.config
    if config.activation_function != "gelu":
        return f"the activation function is {config.activation_function}"
    if getattr(config, "is_causal", None) is False:
        return "the configuration turns the causal mask off"
    for name, module in model.named_modules():
        if module is model:
            continue
        if type(module) not in PARTS:
            return f"{name} is a {type(module).__name__}"
        if "forward" in vars(module):
            return f"something replaced the forward of {name}"
        if hooked(module):
            return f"there is a hook on {name}"
        if module.training:
            return f"{name} is in training mode"
    weights = list(model.parameters())
    devices, dtypes = {weight.device for weight in weights}, {weight.dtype for weight in weights}
    if len(devices) != 1 or next(iter(devices)).type not in ("cpu", "cuda"):
        return "its weights are not all on the CPU or on one NVIDIA GPU"
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        return "its weights are not all float32, float16 or bfloat16"
    return None


def hooked(module: torch.nn.Module) -> bool:
    """Whether a hook that is not transformers' own output capture, which sleeps unless asked, is on the module."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values(), *module._backward_hooks.values()]
    return any(getattr(hook, "__module__", None) != "transformers.utils.output_capturing" for hook in hooks)
