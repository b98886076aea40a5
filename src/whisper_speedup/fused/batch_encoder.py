"""The encoder for several utterances at once, on a GPU: the same weights and arithmetic as encoder.py's.

At large-v2's shape one utterance is 2.3 TFLOP: 1.9 in products, which cuBLAS does, and 0.4 in attention. Between them
memory is read and written 56 MB an utterance and layer, so the bias, residual, clamp and layer norm are one kernel, and
bias and GELU another.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv1d, gelu, linear, scaled_dot_product_attention

from whisper_speedup.fused.encoder import Encoder, EncoderLayer
from whisper_speedup.kernels.add_norm import add_norm
from whisper_speedup.kernels.bias_gelu import bias_gelu

# cuDNN's attention is the faster on Hopper; the others serve what it refuses.
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH,
]  # fmt: skip


class BatchEncoder:
    """Log-mel features of several utterances to encoder states, over the weights of `encoder`."""

    def __init__(self, encoder: Encoder, backends: list[SDPBackend] = BACKENDS) -> None:
        self.encoder, self.backends = encoder, backends
        self.qkv = [(_joined(layer, "weight"), _joined(layer, "bias")) for layer in encoder.layers]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Features (utterances, mels, frames) to states (utterances, positions, d), in the encoder's dtype."""
        encoder = self.encoder
        states = features.to(encoder.dtype)
        for weight, bias, stride, padding in encoder.convolutions:
            states = gelu(conv1d(states, weight, bias, stride, padding))
        count, width, positions = states.shape
        residual = (states.transpose(1, 2) + encoder.positions).reshape(count * positions, width).contiguous()
        norms = [layer.attention_norm for layer in encoder.layers[1:]] + [encoder.norm]
        first = encoder.layers[0].attention_norm
        normed = first(residual)
        # transformers keeps fp16 states a thousand short of overflow, and so must we.
        limit = torch.finfo(torch.float16).max - 1000 if encoder.dtype == torch.float16 else float("inf")
        for layer, follower, (weight, bias) in zip(encoder.layers, norms, self.qkv, strict=True):
            qkv = linear(normed, weight, bias).view(count, positions, 3, encoder.heads, -1)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            with sdpa_kernel(self.backends, set_priority=True):
                attended = scaled_dot_product_attention(query, key, value)
            product = _product(attended.transpose(1, 2).reshape(count * positions, width), layer.out.weight)
            norm = layer.mlp_norm
            add_norm(residual, product, _there(layer.out.bias), norm.weight, norm.bias, normed, norm.eps)
            hidden = bias_gelu(_product(normed, layer.fc1.weight), _there(layer.fc1.bias))
            product = _product(hidden, layer.fc2.weight)
            add_norm(
                residual, product, _there(layer.fc2.bias), follower.weight, follower.bias, normed, follower.eps, limit
            )
        return normed.view(count, positions, width)


def _product(x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return torch.mm(x, _there(weight).T)


def _there(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None, "an encoder whose weights are packed for a CPU"
    return tensor


def _joined(layer: EncoderLayer, name: str) -> torch.Tensor:
    """Query, key and value's weight or bias as one."""
    parts = [getattr(part, name) for part in layer.qkv]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
