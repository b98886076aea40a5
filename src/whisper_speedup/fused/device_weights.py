"""The decoder's weights as the kernels read them: layer norms folded into the products that follow.

The layers lie matrix by matrix for the chain of Triton kernels, or as the one launch of kernels/persistent_layers.py
streams them; never both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperDecoderLayer

from whisper_speedup.fused.one_launch import OneLaunch
from whisper_speedup.kernels.decoder_layers import DecoderLayer
from whisper_speedup.kernels.eight_bits import DTYPES, WeightFormat, quantised
from whisper_speedup.kernels.norm_linear import fold_norm
from whisper_speedup.kernels.persistent_layers import Plain, PlainLayer, pack_layers
from whisper_speedup.kernels.persistent_packing import PackedLayers
from whisper_speedup.measure.floor import layer_matrices


@dataclass(frozen=True)
class NormedProduct:
    """A layer norm and the product behind it: weight (N, K), gamma (K,), `W gamma` and `W beta + b` (N,) fp32.

    `scale`: as Product's.
    """

    weight: torch.Tensor
    gamma: torch.Tensor
    w_gamma: torch.Tensor
    offset: torch.Tensor
    eps: float
    scale: torch.Tensor | None = None


@dataclass(frozen=True)
class Product:
    """A product that adds to the residual stream: weight (N, K), bias (N,). `scale` (N,) fp32, where the weight is in 8
    bits (kernels/eight_bits.py). `then`: what reads the stream next, for whoever adds leaves it ready for that norm.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    then: NormedProduct
    scale: torch.Tensor | None = None


DeviceLayer = DecoderLayer[NormedProduct, Product]


@dataclass(frozen=True)
class DeviceWeights:
    """All of the decoder. `cross_weight` (2 layers, d, d), `cross_bias` (2 layers, 1, d): keys and values in turn.

    `one_launch`: what runs layers that are packed for it.
    """

    layers: tuple[DeviceLayer, ...] | PackedLayers
    cross_weight: torch.Tensor
    cross_bias: torch.Tensor
    embedding: torch.Tensor
    positions: torch.Tensor
    projection: NormedProduct
    heads: int
    arena: "Arena"
    one_launch: OneLaunch | None

    @property
    def chain(self) -> tuple[DeviceLayer, ...]:
        """The layers as the Triton kernels read them, where they are packed so."""
        assert isinstance(self.layers, tuple), "the layers are packed for one launch"
        return self.layers

    def launched_by(self, one_launch: OneLaunch) -> "DeviceWeights":
        """The same weights, packed for one launch already, behind a launch of another number of rows."""
        assert isinstance(self.layers, PackedLayers), "the layers are packed for the chain"
        return replace(self, layers=self.layers.planned(one_launch.plan), one_launch=one_launch)


class Arena:
    """One flat tensor that holds every matrix in the order in which a step reads them."""

    def __init__(self, count: int, device: torch.device, dtype: torch.dtype) -> None:
        self.flat = torch.empty(count, device=device, dtype=dtype)
        self.used = 0

    def add(self, *parts: torch.Tensor) -> torch.Tensor:
        """Copy matrices of one width into the arena, one below the other; returns them as one matrix there."""
        width = parts[0].shape[1]
        begin = self.used
        for part in parts:
            self.flat[self.used : self.used + part.numel()].view_as(part).copy_(part.detach())
            self.used += part.numel()
        return self.flat[begin : self.used].view(-1, width)


def pack_device_weights(
    model: WhisperForConditionalGeneration, device: torch.device, dtype: torch.dtype,
    one_launch: OneLaunch | None = None, weight_format: WeightFormat | None = None,
) -> DeviceWeights:  # fmt: skip
    """Copy the decoder of a transformers Whisper to `device` in `dtype` (fp16 or bf16; fp32 in tests).

    `weight_format`: the matrices of every step in 8 bits, for the chain. What is read once an utterance, or a row at a
    time, stays in `dtype`: keys' and values' projections of cross-attention, embedding, positions.
    """
    return pack_device_decoder(model.model.decoder, model.proj_out.weight, device, dtype, one_launch, weight_format)


def pack_device_decoder(
    decoder: WhisperDecoder, projection: torch.Tensor, device: torch.device, dtype: torch.dtype,
    one_launch: OneLaunch | None = None, weight_format: WeightFormat | None = None,
) -> DeviceWeights:  # fmt: skip
    """The same for a decoder alone and the matrix (vocabulary, d) that makes its logits."""
    assert one_launch is None or weight_format is None, "the one launch reads weights in half precision"
    width, ffn, layers = decoder.config.d_model, decoder.config.decoder_ffn_dim, len(decoder.layers)
    tied = projection.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    size = decoder.embed_tokens.weight.shape[0]
    in_arena = layers if one_launch is None else 0
    # An embedding whose matrix is rounded for the logits is another one.
    vocabularies = 1 if tied or weight_format is not None else 2
    read_as = dtype if weight_format is None else DTYPES[weight_format]
    arena = Arena(in_arena * layer_matrices(width, ffn) + vocabularies * size * width, device, read_as)

    def to(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(device=device, dtype=dtype).contiguous()

    def bias_of(module: torch.nn.Linear) -> torch.Tensor:
        return to(module.bias) if module.bias is not None else to(module.weight.new_zeros(module.out_features))

    def matrix(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if weight_format is None:
            return arena.add(*parts), None
        rounded = [quantised(part.detach().to(device), weight_format) for part in parts]
        return arena.add(*(part.values for part in rounded)), torch.cat([part.scale for part in rounded])

    def normed(norm: torch.nn.LayerNorm, *modules: torch.nn.Linear) -> NormedProduct:
        weight, scale = matrix(*(m.weight for m in modules))
        return fold(norm, weight, scale, torch.cat([bias_of(m) for m in modules]))

    def fold(
        norm: torch.nn.LayerNorm, weight: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor
    ) -> NormedProduct:
        gamma, beta = to(norm.weight), to(norm.bias)
        return NormedProduct(weight, gamma, *fold_norm(weight, bias, gamma, beta, scale), norm.eps, scale)

    def product(module: torch.nn.Linear) -> Callable[[NormedProduct], Product]:
        weight, scale = matrix(module.weight)
        return lambda then: Product(weight, bias_of(module), then, scale)

    Unlinked = DecoderLayer[NormedProduct, Callable[[NormedProduct], Product]]

    def pack_layer(layer: WhisperDecoderLayer) -> Unlinked:
        attention, cross = layer.self_attn, layer.encoder_attn
        return Unlinked(  # keyword arguments run in this order, which is the order in the arena
            qkv=normed(layer.self_attn_layer_norm, attention.q_proj, attention.k_proj, attention.v_proj),
            self_out=product(attention.out_proj),
            query=normed(layer.encoder_attn_layer_norm, cross.q_proj),
            cross_out=product(cross.out_proj),
            fc1=normed(layer.final_layer_norm, layer.fc1),
            fc2=product(layer.fc2),
        )

    def link(layer: Unlinked, last: NormedProduct) -> DeviceLayer:
        outs = {"self_out": layer.self_out(layer.query), "cross_out": layer.cross_out(layer.fc1)}
        return DeviceLayer(qkv=layer.qkv, query=layer.query, fc1=layer.fc1, fc2=layer.fc2(last), **outs)

    cross = [m for layer in decoder.layers for m in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)]
    # Filled in place: gathered first and stacked then, they would be the engine's peak of memory.
    cross_weight = torch.empty(2 * layers, width, width, device=device, dtype=dtype)
    cross_bias = torch.empty(2 * layers, 1, width, device=device, dtype=dtype)
    for index, module in enumerate(cross):
        cross_weight[index].copy_(module.weight.detach())
        cross_bias[index, 0].copy_(bias_of(module))
    packed: tuple[DeviceLayer, ...] | PackedLayers
    unlinked = [pack_layer(layer) for layer in decoder.layers] if one_launch is None else []
    vocabulary, vocabulary_scale = matrix(projection)
    zeros = torch.zeros(size, dtype=torch.float32, device=device)
    last = fold(decoder.layer_norm, vocabulary, vocabulary_scale, zeros)
    if one_launch is None:
        followers = [*(layer.qkv for layer in unlinked[1:]), last]
        packed = tuple(link(layer, follower) for layer, follower in zip(unlinked, followers, strict=True))
    else:
        plain = (plain_layer(layer) for layer in decoder.layers)
        packed = pack_layers(one_launch.plan, layers, plain, decoder.layer_norm.weight, device, dtype)
    embedding = decoder.embed_tokens.weight
    if weight_format is not None:
        embedding = to(embedding)
    elif not tied:
        embedding = arena.add(embedding)
    return DeviceWeights(
        layers=packed,
        cross_weight=cross_weight,
        cross_bias=cross_bias,
        embedding=vocabulary if tied and weight_format is None else embedding,
        positions=to(decoder.embed_positions.weight),
        projection=last,
        heads=decoder.config.decoder_attention_heads,
        arena=arena,
        one_launch=one_launch,
    )


def plain_layer(layer: WhisperDecoderLayer) -> PlainLayer:
    """A layer's products as they are in the model."""

    def plain(*modules: torch.nn.Linear, norm: torch.nn.LayerNorm | None = None) -> Plain:
        biases = tuple(m.bias if m.bias is not None else m.weight.new_zeros(m.out_features) for m in modules)
        weight = torch.cat([m.weight.detach() for m in modules])
        gamma_beta = (None, None) if norm is None else (norm.weight.detach(), norm.bias.detach())
        return Plain(weight, torch.cat(biases).detach(), *gamma_beta)

    attention, cross = layer.self_attn, layer.encoder_attn
    return PlainLayer(
        qkv=plain(attention.q_proj, attention.k_proj, attention.v_proj, norm=layer.self_attn_layer_norm),
        self_out=plain(attention.out_proj),
        query=plain(cross.q_proj, norm=layer.encoder_attn_layer_norm),
        cross_out=plain(cross.out_proj),
        fc1=plain(layer.fc1, norm=layer.final_layer_norm),
        fc2=plain(layer.fc2),
    )
