"""The encoder: transformers' arithmetic, residuals added behind their products, keys and values laid out for attention.

It works on padded 30 s windows, so its cost is the same for every utterance: for tiny.en 31 GFLOP, of which
attention over 1500 positions is 14. On two Xeon cores that is the larger part of a short utterance.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import conv1d, gelu, scaled_dot_product_attention
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperAttention

from whisper_speedup.fused.linear import Linear
from whisper_speedup.fused.weights import Norm, copier, copy_linear, copy_norm


@dataclass(frozen=True)
class EncoderLayer:
    """One encoder layer; `qkv` is one product (3 d, d) on a GPU, and three (d, d) on a CPU."""

    attention_norm: Norm
    qkv: tuple[Linear, ...]
    out: Linear
    mlp_norm: Norm
    fc1: Linear
    fc2: Linear


class Encoder:
    """Log-mel features to encoder states, with weights of its own on one device.

    `kernels`: residual, bias, clamp and norm in one Triton kernel between the products (kernels/residual_norm.py); half
    precision alone, whose weights are never packed.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        device: torch.device,
        dtype: torch.dtype,
        pack: bool = True,
        kernels: bool = False,
    ) -> None:
        self.kernels = kernels and dtype != torch.float32
        encoder = model.model.encoder
        to = copier(device, dtype, pack)

        def linear(*modules: torch.nn.Linear) -> Linear:
            return copy_linear(to, *modules, pack=pack)

        self.dtype = dtype
        self.heads = model.config.encoder_attention_heads
        self.convolutions = [
            (to(conv.weight), to(conv.bias), conv.stride, conv.padding) for conv in (encoder.conv1, encoder.conv2)
        ]
        self.positions = to(encoder.embed_positions.weight)
        self.layers = [
            EncoderLayer(
                attention_norm=copy_norm(to, layer.self_attn_layer_norm),
                qkv=tuple(linear(*modules) for modules in self._together(layer.self_attn, device)),
                out=linear(layer.self_attn.out_proj),
                mlp_norm=copy_norm(to, layer.final_layer_norm),
                fc1=linear(layer.fc1),
                fc2=linear(layer.fc2),
            )
            for layer in encoder.layers
        ]
        self.norm = copy_norm(to, encoder.layer_norm)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Features (1, mels, frames) to states (positions, d), in the encoder's dtype."""
        states = features.to(self.dtype)
        for weight, bias, stride, padding in self.convolutions:
            states = gelu(conv1d(states, weight, bias, stride, padding))
        states = states[0].T + self.positions
        # transformers keeps fp16 states a thousand short of overflow, and so must we.
        limit = torch.finfo(torch.float16).max - 1000 if self.dtype == torch.float16 else float("inf")
        if self.kernels:
            return self._layers(states.contiguous(), limit)
        for layer in self.layers:
            states = layer.out.add(self._attend(layer, layer.attention_norm(states)), states)
            states = layer.fc2.add(layer.fc1.gelu(layer.mlp_norm(states)), states)
            if self.dtype == torch.float16:
                states = states.clamp(-limit, limit)
        return self.norm(states)

    def _layers(self, states: torch.Tensor, limit: float) -> torch.Tensor:
        """The layers and the last norm; a product adds to the states in place, and the next norm adds its bias."""
        from whisper_speedup.kernels.residual_norm import residual_norm

        def normed(norm: Norm, before: Linear | None, most: float) -> torch.Tensor:
            bias = before.bias if before is not None else None
            return residual_norm(states, bias, most, norm.weight, norm.bias, norm.eps)

        before: Linear | None = None
        for layer in self.layers:
            attended = self._attend(layer, normed(layer.attention_norm, before, limit))
            assert layer.out.weight is not None
            assert layer.fc2.weight is not None
            states.addmm_(attended, layer.out.weight.T)
            hidden = layer.fc1.gelu(normed(layer.mlp_norm, layer.out, float("inf")))
            states.addmm_(hidden, layer.fc2.weight.T)
            before = layer.fc2
        return normed(self.norm, before, limit)

    @staticmethod
    def _together(attention: WhisperAttention, device: torch.device) -> list[list[torch.nn.Linear]]:
        """Which of query, key and value to make in one product. A GPU wants the larger product; a CPU's caches want
        rows of one kind next to each other (18.6 ms instead of 20.2 for a layer of tiny.en on two Xeon cores)."""
        modules = [attention.q_proj, attention.k_proj, attention.v_proj]
        return [[module] for module in modules] if device.type == "cpu" else [modules]

    def _attend(self, layer: EncoderLayer, normed: torch.Tensor) -> torch.Tensor:
        """Self-attention over (positions, d), without its output product; returns (positions, d)."""
        count = normed.shape[0]
        if len(layer.qkv) == 1:
            query, key, value = layer.qkv[0](normed).view(1, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            query, key, value = (part(normed).view(1, count, self.heads, -1).transpose(1, 2) for part in layer.qkv)
            key, value = key.contiguous(), value.contiguous()
        attended = scaled_dot_product_attention(query, key, value)
        return attended[0].transpose(0, 1).reshape(count, -1)
