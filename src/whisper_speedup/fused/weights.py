"""The decoder's weights, packed in the order and shape in which a step reads them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import layer_norm
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperDecoderLayer

from whisper_speedup.fused.linear import Linear
from whisper_speedup.kernels.decoder_layers import DecoderLayer
from whisper_speedup.kernels.eight_bits import WeightFormat, dequantised


@dataclass(frozen=True)
class Norm:
    """A layer norm's scale and offset, each (d,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """The norm of states (rows, d)."""
        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class NormedLinear:
    """A layer norm and the product behind it."""

    norm: Norm
    linear: Linear

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(rows, d) to (rows, outputs)."""
        return self.linear(self.norm(states))

    def gelu(self, states: torch.Tensor) -> torch.Tensor:
        """The same, and exact GELU behind it."""
        return self.linear.gelu(self.norm(states))


LayerWeights = DecoderLayer[NormedLinear, Linear]


@dataclass(frozen=True)
class LayerStack:
    """The decoder up to its last layer norm. A layer's `qkv` stacks query, key and value: (3 d, d); the key has no bias
    in Whisper, so zeros. `cross_keys` stacks every layer's cross-attention key weights: (layers d, d), no bias;
    `cross_values`: a product a layer. `embedding` (vocabulary, d); `positions` (max_positions, d).
    """

    layers: tuple[LayerWeights, ...]
    cross_keys: torch.Tensor
    cross_values: tuple[Linear, ...]
    embedding: torch.Tensor
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


@dataclass(frozen=True)
class DecoderWeights(LayerStack):
    """All of the decoder. `projection` is the embedding's matrix again, for Whisper ties them."""

    projection: Linear


Copy = Callable[[torch.Tensor], torch.Tensor]


def copy_norm(to: Copy, module: torch.nn.LayerNorm) -> Norm:
    """A layer norm's parameters, each sent through `to` (device, type, layout)."""
    return Norm(to(module.weight), to(module.bias), module.eps)


def copier(device: torch.device, dtype: torch.dtype, pack: bool = True) -> Copy:
    """To `device` in `dtype`. Not packed means fp32 weights under autocast on a GPU, which keeps its casts for as long
    as its context lasts, but only those of leaves that ask for a gradient.
    """

    def to(tensor: torch.Tensor) -> torch.Tensor:
        copied = tensor.detach().to(device=device, dtype=dtype).contiguous()
        return copied if pack else copied.detach().requires_grad_()

    return to


def copy_linear(
    to: Copy, *modules: torch.nn.Linear, few_rows: bool = False, pack: bool = True,
    weight_format: WeightFormat | None = None,
) -> Linear:  # fmt: skip
    """One product for several modules with the same input: their outputs side by side. `weight_format`: of a rounded
    weight.
    """
    biases = tuple(m.bias if m.bias is not None else m.weight.new_zeros(m.out_features) for m in modules)
    weight = torch.cat([m.weight for m in modules])
    if weight_format is not None:
        weight = dequantised(weight, weight_format)
    return Linear(to(weight), to(torch.cat(biases)), few_rows, pack)


def pack_stack(
    decoder: WhisperDecoder, device: torch.device, dtype: torch.dtype, pack: bool = True,
    weight_format: WeightFormat | None = None,
) -> LayerStack:  # fmt: skip
    """Copy a transformers Whisper decoder into packed form on `device` in `dtype`.

    `weight_format` rounds what device_weights.py rounds: the matrices of a step, and not those of cross-attention's
    keys and values. The rounded weights are kept and read as `dtype`, so that a CPU shows their text; it is no faster.
    """
    to = copier(device, dtype, pack)

    def linear(*modules: torch.nn.Linear, few_rows: bool = True) -> Linear:
        rounded = weight_format if few_rows else None
        return copy_linear(to, *modules, few_rows=few_rows, pack=pack, weight_format=rounded)

    def normed(norm: torch.nn.LayerNorm, *modules: torch.nn.Linear) -> NormedLinear:
        return NormedLinear(copy_norm(to, norm), linear(*modules))

    layers: list[WhisperDecoderLayer] = list(decoder.layers)
    return LayerStack(
        layers=tuple(
            LayerWeights(
                qkv=normed(layer.self_attn_layer_norm, *(getattr(layer.self_attn, f"{one}_proj") for one in "qkv")),
                self_out=linear(layer.self_attn.out_proj),
                query=normed(layer.encoder_attn_layer_norm, layer.encoder_attn.q_proj),
                cross_out=linear(layer.encoder_attn.out_proj),
                fc1=normed(layer.final_layer_norm, layer.fc1),
                fc2=linear(layer.fc2),
            )
            for layer in layers
        ),
        cross_values=tuple(linear(layer.encoder_attn.v_proj, few_rows=False) for layer in layers),
        cross_keys=to(torch.cat([layer.encoder_attn.k_proj.weight for layer in layers])),
        embedding=to(decoder.embed_tokens.weight),
        positions=to(decoder.embed_positions.weight),
        norm=copy_norm(to, decoder.layer_norm),
        heads=decoder.config.decoder_attention_heads,
    )


def pack_decoder(
    model: WhisperForConditionalGeneration,
    device: torch.device,
    dtype: torch.dtype,
    stack: LayerStack | None = None,
    pack: bool = True,
    weight_format: WeightFormat | None = None,
) -> DecoderWeights:
    """Copy the decoder and the projection of a transformers Whisper; `stack`: the decoder, packed already. `pack`:
    see copier and Linear; `weight_format`: see pack_stack, and the projection is rounded, too."""
    stack = stack if stack is not None else pack_stack(model.model.decoder, device, dtype, pack, weight_format)
    projection = model.proj_out.weight
    tied = projection.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()
    if weight_format is not None:  # the embedding itself stays as it is
        projection, tied = dequantised(projection, weight_format), False
    weight = stack.embedding if tied else copier(device, dtype, pack)(projection)
    return DecoderWeights(**vars(stack), projection=Linear(weight, None, few_rows=True, pack=pack))
