"""The decoder's weights, packed in the order and shape in which a step reads them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

from whisper_speedup.fused.linear import Linear


@dataclass(frozen=True)
class Norm:
    """A layer norm's scale and offset, each (d,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. `qkv` stacks query, key and value: (3 d, d); the key has no bias in Whisper, so zeros."""

    self_norm: Norm
    qkv: Linear
    self_out: Linear
    cross_norm: Norm
    cross_query: Linear
    cross_value: Linear
    cross_out: Linear
    mlp_norm: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class DecoderWeights:
    """All of the decoder. `cross_keys` stacks every layer's cross-attention key weights: (layers d, d), no bias.

    `embedding` (vocabulary, d); `projection` is the same matrix, for Whisper ties them. `positions` (max_positions, d).
    """

    layers: tuple[LayerWeights, ...]
    cross_keys: torch.Tensor
    embedding: torch.Tensor
    projection: Linear
    positions: torch.Tensor
    norm: Norm
    heads: int

    @property
    def width(self) -> int:
        """d_model."""
        return self.embedding.shape[1]

    @property
    def head_dim(self) -> int:
        """Width of one head; 64 in every published Whisper."""
        return self.width // self.heads


Copy = Callable[[torch.Tensor], torch.Tensor]


def copy_norm(to: Copy, module: torch.nn.LayerNorm) -> Norm:
    """A layer norm's parameters, each sent through `to` (device, type, layout)."""
    return Norm(to(module.weight), to(module.bias), module.eps)


def copy_linear(to: Copy, *modules: torch.nn.Linear, few_rows: bool = False) -> Linear:
    """One product for several modules with the same input: their outputs side by side."""
    biases = tuple(m.bias if m.bias is not None else m.weight.new_zeros(m.out_features) for m in modules)
    return Linear(to(torch.cat([m.weight for m in modules])), to(torch.cat(biases)), few_rows)


def pack_decoder(model: WhisperForConditionalGeneration, device: torch.device, dtype: torch.dtype) -> DecoderWeights:
    """Copy the decoder of a transformers Whisper into packed form on `device` in `dtype`."""

    def to(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(device=device, dtype=dtype).contiguous()

    decoder = model.model.decoder
    layers: list[WhisperDecoderLayer] = list(decoder.layers)
    embedding = to(decoder.embed_tokens.weight)
    projection = model.proj_out.weight
    tied = projection.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    return DecoderWeights(
        layers=tuple(
            LayerWeights(
                self_norm=copy_norm(to, layer.self_attn_layer_norm),
                qkv=copy_linear(
                    to, layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, few_rows=True
                ),
                self_out=copy_linear(to, layer.self_attn.out_proj, few_rows=True),
                cross_norm=copy_norm(to, layer.encoder_attn_layer_norm),
                cross_query=copy_linear(to, layer.encoder_attn.q_proj, few_rows=True),
                cross_value=copy_linear(to, layer.encoder_attn.v_proj),
                cross_out=copy_linear(to, layer.encoder_attn.out_proj, few_rows=True),
                mlp_norm=copy_norm(to, layer.final_layer_norm),
                fc1=copy_linear(to, layer.fc1, few_rows=True),
                fc2=copy_linear(to, layer.fc2, few_rows=True),
            )
            for layer in layers
        ),
        cross_keys=to(torch.cat([layer.encoder_attn.k_proj.weight for layer in layers])),
        embedding=embedding,
        projection=Linear(embedding if tied else to(projection), None, few_rows=True),
        positions=to(decoder.embed_positions.weight),
        norm=copy_norm(to, decoder.layer_norm),
        heads=model.config.decoder_attention_heads,
    )
