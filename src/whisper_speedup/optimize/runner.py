"""The fused engine behind the whole-model path: which one runs on this device, and when none does."""

from typing import Protocol

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.optimize.decoder_path import DecoderPath
from whisper_speedup.optimize.served import kernel_dtype


class Runner(Protocol):
    """FusedWhisper or DeviceWhisper."""

    dtype: torch.dtype

    def generate(self, features: torch.Tensor) -> Hypothesis:
        """Decode features (1, mels, frames)."""

    def with_settings(self, settings: DecodingSettings) -> "Runner":
        """Another one over the same weights."""


def runner_dtype(model: WhisperForConditionalGeneration) -> torch.dtype:
    """The type in which the fused engine would run now."""
    return kernel_dtype(model.model.decoder) or model.dtype


def why_no_runner(model: WhisperForConditionalGeneration, features: torch.Tensor) -> str | None:
    """Why the fused engine does not take these features (1, mels, frames) on this model, or None."""
    frames = 2 * model.config.max_source_positions
    if features.shape[1] != model.config.num_mel_bins or not 0 < features.shape[2] <= frames:
        return f"the features have {features.shape[1]} bands and {features.shape[2]} frames"
    autocast = torch.is_autocast_enabled(model.device.type)
    if autocast and model.device.type == "cpu":
        return "autocast is on"
    if features.device != model.device or (features.dtype != model.dtype and not autocast):
        return f"the features are {features.dtype} on {features.device}, and the model is not"
    if model.device.type == "cpu" and model.dtype != torch.float32:
        return f"the weights are {model.dtype} on a CPU"
    return None


def why_not_served(model: WhisperForConditionalGeneration, settings: DecodingSettings) -> str | None:
    """Why the kernels do not serve settings that plain torch does, or None."""
    if kernel_dtype(model.model.decoder) is None:
        return None
    from whisper_speedup.fused.device_model import unserved

    return unserved(settings)


def make_runner(model: WhisperForConditionalGeneration, decoder: DecoderPath, settings: DecodingSettings) -> Runner:
    """The fused engine for these settings, over the decoder's packed weights."""
    dtype = kernel_dtype(model.model.decoder)
    with torch.inference_mode(False), torch.no_grad():
        if dtype is None:
            return FusedWhisper(model, settings, model.device, model.dtype, stack=decoder.packed())
        from whisper_speedup.fused.device_model import DeviceWhisper

        kernels = decoder.device_kernels(dtype)
        tied = model.proj_out.weight.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()
        weights = kernels.weights if tied else None
        return DeviceWhisper(model, settings, model.device, dtype, kernels.launch, weights=weights)
