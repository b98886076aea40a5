"""The fused engine behind the whole-model path: which one runs on this device, and when none does.

On a GPU all layers of its decoder are one launch wherever engine `fused` would run that (fused/one_launch.py), and the
chain of Triton kernels elsewhere.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.optimize.decoder_path import DecoderPath


class Runner(Protocol):
    """FusedWhisper or DeviceWhisper."""

    dtype: torch.dtype
    device: torch.device

    def generate(
        self, features: torch.Tensor, longest: bool = False, meanwhile: Callable[[], object] | None = None
    ) -> Hypothesis:
        """Decode features (1, mels, frames); `meanwhile` is done by the host besides."""

    def with_settings(self, settings: DecodingSettings) -> "Runner":
        """Another one over the same weights."""

    def gave_up(self) -> bool:
        """Whether its one launch has given up, and the GPU's context with it."""


def runner_dtype(decoder: DecoderPath) -> torch.dtype:
    """The type in which the fused engine would run now."""
    return decoder.kernel_dtype() or decoder.decoder.dtype


def why_no_runner(model: WhisperForConditionalGeneration, decoder: DecoderPath, features: torch.Tensor) -> str | None:
    """Why the fused engine does not take these features (1, mels, frames) on this model, or None."""
    frames = 2 * model.config.max_source_positions
    if features.shape[1] != model.config.num_mel_bins or not 0 < features.shape[2] <= frames:
        return f"the features have {features.shape[1]} bands and {features.shape[2]} frames"
    device, dtype = model.device, model.dtype
    autocast = torch.is_autocast_enabled(device.type)
    if autocast and device.type == "cpu":
        return "autocast is on"
    if features.device != device or (features.dtype != dtype and not autocast):
        return f"the features are {features.dtype} on {features.device}, and the model is not"
    if device.type == "cpu" and dtype != torch.float32 and decoder.kernel_dtype() is None:
        return f"the weights are {dtype} on a CPU"
    return None


def why_not_served(decoder: DecoderPath, settings: DecodingSettings) -> str | None:
    """Why the kernels do not serve settings that plain torch does, or None."""
    if decoder.kernel_dtype() is None:
        return None
    from whisper_speedup.fused.device_model import unserved

    return unserved(settings)


def make_runner(
    model: WhisperForConditionalGeneration, decoder: DecoderPath, settings: DecodingSettings, others: Sequence[Runner]
) -> Runner:
    """The fused engine for these settings. `others` have settings of their own and the same weights, so it shares
    what they packed."""
    dtype = decoder.kernel_dtype()
    with torch.inference_mode(False), torch.no_grad():
        if dtype is not None:
            return _on_kernels(model, decoder, settings, dtype, others)
        if others:
            return others[0].with_settings(settings)
        return FusedWhisper(model, settings, model.device, model.dtype, stack=decoder.packed())


def _on_kernels(
    model: WhisperForConditionalGeneration,
    decoder: DecoderPath,
    settings: DecodingSettings,
    dtype: torch.dtype,
    others: Sequence[Runner],
) -> Runner:
    """DeviceWhisper for these settings: they may want a launch of their own, or the chain where others do not."""
    from whisper_speedup.fused.device_model import DeviceWhisper
    from whisper_speedup.fused.device_weights import pack_device_weights
    from whisper_speedup.fused.one_launch import one_launch_or_why

    def tell(line: str) -> None:
        if line not in decoder.warned:
            decoder.warned.add(line)
            warnings.warn(f"whisper_speedup: {line}.", stacklevel=8)

    device, eps = model.device, decoder.decoder.layer_norm.eps
    one_launch, _ = one_launch_or_why(model.config, settings, device, dtype, eps, tell)
    before = [other for other in others if isinstance(other, DeviceWhisper)]
    alike = [other.weights for other in before if (other.weights.one_launch is None) == (one_launch is None)]
    if alike:
        weights = alike[0] if one_launch is None else alike[0].launched_by(one_launch)
    elif one_launch is None and model.proj_out.weight.data_ptr() == decoder.decoder.embed_tokens.weight.data_ptr():
        weights = decoder.device_kernels(dtype).weights
    else:
        weights = pack_device_weights(model, device, dtype, one_launch)
    if before:
        return before[0].with_settings(settings, weights)
    return DeviceWhisper(
        model, settings, device, dtype, decoder.launch_config(), graphs=decoder.launch is None, weights=weights
    )
