"""Which calls of the decoder's forward are served, whatever store is behind them, and why another is not."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.errors import UserError
from whisper_speedup.fused.device_checks import PLAIN, check_device


@dataclass(frozen=True)
class Unserved:
    """Why the decoder's own forward runs; `quiet` where that is the normal course and no warning is due."""

    reason: str
    quiet: bool = False


def why_not(
    decoder: WhisperDecoder,
    input_ids: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    use_cache: bool | None,
    kwargs: dict[str, Any],
) -> Unserved | None:
    """What kind of call this is: None for one we serve, whatever its cache and positions."""
    config = decoder.config
    if torch.compiler.is_compiling():
        return Unserved("torch.compile traces it", quiet=True)
    if not (config.use_cache if use_cache is None else use_cache):
        return Unserved("no cache is asked for", quiet=True)
    if decoder.training:
        return Unserved("the decoder is in training mode (model.eval() ends that)")
    if torch.is_grad_enabled():
        return Unserved("gradients are on (torch.no_grad() turns them off)")
    for name in ("output_attentions", "output_hidden_states"):
        if kwargs.get(name, getattr(config, name, False)):
            return Unserved(f"{name} is asked for")
    unknown = sorted(key for key, value in kwargs.items() if key not in KNOWN and value is not None)
    if unknown:
        return Unserved(f"the argument {unknown[0]} is not known here")
    if inputs_embeds is not None or input_ids is None:
        return Unserved("embeddings come in the place of tokens")
    if encoder_hidden_states is None:
        return Unserved("there are no encoder states")
    autocast = torch.is_autocast_enabled(decoder.device.type)
    if autocast and decoder.device.type == "cpu":
        return Unserved("autocast is on")
    if not autocast and encoder_hidden_states.dtype != decoder.dtype:
        return Unserved(f"the encoder states are {encoder_hidden_states.dtype} and the decoder is {decoder.dtype}")
    if not input_ids.device == encoder_hidden_states.device == decoder.device:
        return Unserved("tokens, encoder states and decoder are on different devices")
    if encoder_hidden_states.shape[0] != input_ids.shape[0]:
        return Unserved("there are not as many encoder states as rows of tokens")
    return None


def kernel_dtype(decoder: WhisperDecoder) -> torch.dtype | None:
    """The type in which the Triton kernels would run this decoder now, or None where they do not."""
    device, dtype = decoder.device, decoder.dtype
    if device.type != "cuda":
        return None
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    return dtype if dtype in (torch.float16, torch.bfloat16) and runs_kernels(device) else None


@cache
def runs_kernels(device: torch.device) -> bool:
    """Whether a GPU runs the kernels; where it could but Triton can't, one warning says why."""
    try:
        check_device(device)
    except UserError as error:
        if torch.cuda.get_device_capability(device)[0] >= 8:
            why = str(error).replace(f", or {PLAIN}", "").rstrip(".")
            warnings.warn(
                f"whisper_speedup: plain torch runs in the place of the kernels, because {why}.", stacklevel=2
            )
        return False
    return True


KNOWN = {"output_attentions", "output_hidden_states", "return_dict"}


def why_not_positions(
    decoder: WhisperDecoder,
    input_ids: torch.Tensor,
    length: int,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
) -> Unserved | None:
    """Positions must be consecutive and unpadded: length, length + 1, ... up to the model's limit."""
    rows, count = input_ids.shape
    end = length + count
    if end > decoder.max_target_positions:
        return Unserved(f"position {end} is beyond the model's {decoder.max_target_positions}")
    if attention_mask is not None and (attention_mask.shape != (rows, end) or not bool(attention_mask.all())):
        return Unserved("the decoder's attention mask hides some tokens")
    if position_ids is not None:
        expected = torch.arange(length, end, device=position_ids.device).expand(position_ids.shape[0], -1)
        if position_ids.shape not in ((1, count), (rows, count)) or not torch.equal(position_ids.long(), expected):
            return Unserved("the decoder's positions are not consecutive")
    return None
