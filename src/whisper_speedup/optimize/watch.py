"""Whether a module is still one that our arithmetic equals, and whether its weights are still those we packed.

A user may train, cast, move or adapt a model between two calls of `generate`. `marks` sees what Python can see: 910
modules and 1259 weights of a large-v2, on the host and before the GPU starts, so its loops are few and short. What is
written behind Python's back (a fused optimizer, `.data`, NumPy over the same memory) the weights' content shows:
fingerprint.py. When either differs from last time, `why_changed` looks at everything.
"""

import time
from operator import attrgetter
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperPositionalEmbedding

from whisper_speedup.optimize.as_configured import BUILT, why_otherwise
from whisper_speedup.optimize.fingerprint import Fingerprint, words_of
from whisper_speedup.optimize.patched import ATTENTION, everywhere, why_patched

# What the forward of a part reads of it, besides weights and other parts.
READ = {
    torch.nn.LayerNorm: attrgetter("eps", "normalized_shape"),
    WhisperAttention: attrgetter(
        "scaling", "num_heads", "head_dim", "is_causal", "layer_idx", "config._attn_implementation"
    ),
    torch.nn.Conv1d: attrgetter("stride", "padding", "dilation", "groups", "padding_mode"),
    torch.nn.Embedding: attrgetter("max_norm"),
    WhisperPositionalEmbedding: attrgetter("max_norm"),
}
CONFIG = (*BUILT, "is_causal", "_attn_implementation", "return_dict")
VERSION, SHAPE = attrgetter("_version"), attrgetter("shape")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PAUSE_S = 0.1  # after so long a rest, all of the weights are read; within it, a sample of each


class Watch:
    """One module as it was at the last `look`."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        self.trained = 0
        self.forget()

    def forget(self) -> None:
        """Take the module for changed at the next look."""
        self.marks: list[Any] | None = None
        self.fingerprint: Fingerprint | None = None
        self.rest()

    def rest(self) -> None:
        """A pause begins."""
        self.rested = time.monotonic()

    def look(self, trained: int = 0) -> bool:
        """Whether the module or its weights have changed since the last look, as far as the host knows by now: on a
        GPU `differs` completes the answer, once the GPU has come so far. `trained`: how often somebody trained, as far
        as we know; when that grows, all of the weights are read."""
        weights: list[torch.Tensor] = []
        now = marks(self.module, weights)
        if self.marks != now:
            self.forget()
            self.marks = now
            self.fingerprint = Fingerprint(weights) if dense(weights) else None
            return True
        if self.fingerprint is not None:
            self.fingerprint.compare(trained != self.trained or time.monotonic() - self.rested > PAUSE_S)
            self.trained = trained
            if self.module.device.type == "cpu" and self.differs():
                return self.look(trained)
        return False

    def differs(self) -> bool:
        """Whether the weights' content at the last look was another than at the one before. On a GPU this waits for
        the comparison: ask where the host has waited for later work already. The next look then starts over."""
        if self.fingerprint is None or not self.fingerprint.differs():
            return False
        self.forget()
        return True


def marks(module: torch.nn.Module, weights: list[torch.Tensor] | None = None) -> list[Any]:
    """Changes when a weight is replaced, moved, cast or written to by one of PyTorch's own operators, when a module in
    it is replaced, hooked, given another forward or another setting, and with training mode. `weights`: filled with
    the module's."""
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
    found = [weight for state in states for weight in state["_parameters"].values() if weight is not None]
    types = list(map(type, modules))
    settings = [read(one) for read, one in zip(map(READ.get, types), modules, strict=True) if read is not None]
    # A module that torch.compile made has no "training" among its own attributes.
    training, forward = [state.get("training") for state in states], ["forward" in state for state in states]
    config = getattr(module, "config", None)
    configured = [getattr(config, name, None) for name in CONFIG]
    if weights is not None:
        weights += found
    places = list(map(torch.Tensor.data_ptr, found)), list(map(SHAPE, found)), list(map(torch.Tensor.stride, found))
    kinds = types, list(map(type, found))
    return [kinds, training, forward, hooks, settings, configured, everywhere(), places, _versions(found)]


def _versions(weights: list[torch.Tensor]) -> list[int]:
    """How often each was written to; nobody counts that of a tensor that inference_mode made, or of one made of it."""
    try:
        return list(map(VERSION, weights))
    except RuntimeError:
        return [_version(weight) for weight in weights]


def _version(weight: torch.Tensor) -> int:
    try:
        return weight._version
    except RuntimeError:
        return 0


def why_changed(model: PreTrainedModel) -> str | None:
    """Why a Whisper encoder or decoder is not (or no longer) a plain one on one device, or None."""
    config = model.config
    if config.activation_function != "gelu":
        return f"the activation function is {config.activation_function}"
    if getattr(config, "is_causal", None) is False:
        return "the configuration turns the causal mask off"
    if config._attn_implementation not in ATTENTION:
        return f"the attention is {config._attn_implementation}"
    reason = why_patched() or why_otherwise(model)
    if reason is not None:
        return reason
    for name, module in model.named_modules():
        if isinstance(module, WhisperAttention) and module.config._attn_implementation != config._attn_implementation:
            return f"the attention of {name} is {module.config._attn_implementation}"
        if module is model:
            continue
        if "forward" in vars(module):
            return f"something replaced the forward of {name}"
        if hooked(module):
            return f"there is a hook on {name}"
        if module.training:
            return f"{name} is in training mode"
    if len({module.eps for module in model.modules() if type(module) is torch.nn.LayerNorm}) > 1:
        return "its layer norms differ in eps"
    weights = list(model.parameters())
    devices, dtypes = {weight.device for weight in weights}, {weight.dtype for weight in weights}
    if len(devices) != 1 or next(iter(devices)).type not in ("cpu", "cuda"):
        return "its weights are not all on the CPU or on one NVIDIA GPU"
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        return "its weights are not all float32, float16 or bfloat16"
    if not dense(weights):
        return "its weights are not plain dense tensors"
    return None


def dense(weights: list[torch.Tensor]) -> bool:
    """Whether the bytes of all weights can be read where `data_ptr` says."""
    try:
        return all(
            type(weight) in (torch.Tensor, torch.nn.Parameter)
            and weight.device.type in ("cpu", "cuda")
            and weight.dtype in DTYPES
            and torch.ops.aten.is_non_overlapping_and_dense(weight)
            and words_of(weight, weight.itemsize) is not None  # raises for one cast from what inference_mode made
            for weight in weights
        )
    except (NotImplementedError, RuntimeError):
        return False


def hooked(module: torch.nn.Module) -> bool:
    """Whether a hook that is not transformers' own output capture, which sleeps unless asked, is on the module."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values(), *module._backward_hooks.values()]
    return any(getattr(hook, "__module__", None) != "transformers.utils.output_capturing" for hook in hooks)
