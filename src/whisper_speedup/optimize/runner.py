"""The fused engine behind the whole-model path: which one runs on this device, and when none does."""

from typing import Protocol

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.optimize.decoder_path import DecoderPath


class Runner(Protocol):
    """FusedWhisper or DeviceWhisper."""

    def generate(self, features: torch.Tensor) -> Hypothesis:
        """Decode features (1, mels, frames)."""

    def with_settings(self, settings: DecodingSettings) -> "Runner":
        """Another one over the same weights."""


def why_no_runner(model: WhisperForConditionalGeneration, features: torch.Tensor) -> str | None:
    """Why the fused engine does not take these features (1, mels, frames) on this model, or None."""
    frames = 2 * model.config.max_source_positions
    if features.shape[1] != model.config.num_mel_bins or not 0 < features.shape[2] <= frames:
        return f"the features are {features.shape[1]} by {features.shape[2]}, more than one window or of another kind"
    if features.device != model.device or features.dtype != model.dtype:
        return f"the features are {features.dtype} on {features.device}, and the model is not"
    if torch.is_autocast_enabled(model.device.type):
        return "autocast is on"
    if model.device.type == "cpu" and model.dtype != torch.float32:
        return f"the weights are {model.dtype} on a CPU"
    return None


def make_runner(model: WhisperForConditionalGeneration, decoder: DecoderPath, settings: DecodingSettings) -> Runner:
    """The fused engine for these settings, over the decoder's packed weights."""
    with torch.inference_mode(False), torch.no_grad():
        return FusedWhisper(model, settings, model.device, model.dtype, decoder.packed())
