"""A transformers model with the weights that a format keeps: what an engine with that format must equal."""

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.kernels.eight_bits import WeightFormat, dequantised


def round_weights(model: WhisperForConditionalGeneration, weights: WeightFormat) -> WhisperForConditionalGeneration:
    """Round, in place, the matrices of a decode step: a layer's but cross-attention's key and value, and the logits'.

    The embedding stays as it was, so the logits' matrix is another one from here on. For models in fp32: another type
    would round once more.
    """
    rounded: list[torch.nn.Linear] = [model.proj_out]
    for layer in model.model.decoder.layers:
        attention, cross = layer.self_attn, layer.encoder_attn
        rounded += [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj]
        rounded += [cross.q_proj, cross.out_proj, layer.fc1, layer.fc2]
    for module in rounded:
        kept = dequantised(module.weight, weights).to(module.weight.dtype)
        module.weight = torch.nn.Parameter(kept, requires_grad=module.weight.requires_grad)
    return model
