"""The decoder's weights as the kernels read them: layer norms folded into the products that follow."""

from dataclasses import dataclass

import torch
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.kernels.norm_linear import fold_norm


@dataclass(frozen=True)
class NormedProduct:
    """A layer norm and the product behind it: weight (N, K), gamma (K,), `W gamma` and `W beta + b` (N,) fp32."""

    weight: torch.Tensor
    gamma: torch.Tensor
    w_gamma: torch.Tensor
    offset: torch.Tensor
    eps: float


@dataclass(frozen=True)
class Product:
    """A product that adds to the residual stream: weight (N, K), bias (N,)."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True)
class DeviceLayer:
    """One decoder layer in reading order."""

    qkv: NormedProduct
    self_out: Product
    query: NormedProduct
    cross_out: Product
    fc1: NormedProduct
    fc2: Product


@dataclass(frozen=True)
class DeviceWeights:
    """All of the decoder. `cross_weight` (2 layers, d, d), `cross_bias` (2 layers, 1, d): keys and values in turn."""

    layers: tuple[DeviceLayer, ...]
    cross_weight: torch.Tensor
    cross_bias: torch.Tensor
    embedding: torch.Tensor
    positions: torch.Tensor
    projection: NormedProduct
    heads: int


def pack_device_weights(
    model: WhisperForConditionalGeneration, device: torch.device, dtype: torch.dtype
) -> DeviceWeights:
    """Copy the decoder of a transformers Whisper to `device` in `dtype` (fp16 or bf16; fp32 in tests)."""
    return pack_device_decoder(model.model.decoder, model.proj_out.weight, device, dtype)


def pack_device_decoder(
    decoder: WhisperDecoder, projection: torch.Tensor, device: torch.device, dtype: torch.dtype
) -> DeviceWeights:
    """The same for a decoder alone and the matrix (vocabulary, d) that makes its logits."""

    def to(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(device=device, dtype=dtype).contiguous()

    def normed(norm: torch.nn.LayerNorm, *modules: torch.nn.Linear) -> NormedProduct:
        biases = tuple(m.bias if m.bias is not None else m.weight.new_zeros(m.out_features) for m in modules)
        return fold(norm, to(torch.cat([m.weight for m in modules])), to(torch.cat(biases)))

    def fold(norm: torch.nn.LayerNorm, weight: torch.Tensor, bias: torch.Tensor) -> NormedProduct:
        gamma, beta = to(norm.weight), to(norm.bias)
        return NormedProduct(weight, gamma, *fold_norm(weight, bias, gamma, beta), norm.eps)

    def product(module: torch.nn.Linear) -> Product:
        return Product(to(module.weight), to(module.bias))

    cross = [m for layer in decoder.layers for m in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)]
    biases = [m.bias if m.bias is not None else m.weight.new_zeros(m.out_features) for m in cross]
    embedding = to(decoder.embed_tokens.weight)
    tied = projection.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    zeros = embedding.new_zeros(embedding.shape[0])
    return DeviceWeights(
        layers=tuple(
            DeviceLayer(
                qkv=normed(
                    layer.self_attn_layer_norm, layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj
                ),
                self_out=product(layer.self_attn.out_proj),
                query=normed(layer.encoder_attn_layer_norm, layer.encoder_attn.q_proj),
                cross_out=product(layer.encoder_attn.out_proj),
                fc1=normed(layer.final_layer_norm, layer.fc1),
                fc2=product(layer.fc2),
            )
            for layer in decoder.layers
        ),
        cross_weight=torch.stack([to(m.weight) for m in cross]),
        cross_bias=torch.stack([to(bias) for bias in biases])[:, None],
        embedding=embedding,
        positions=to(decoder.embed_positions.weight),
        projection=fold(decoder.layer_norm, embedding if tied else to(projection), zeros),
        heads=decoder.config.decoder_attention_heads,
    )
