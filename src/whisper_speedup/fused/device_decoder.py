"""The decoder as a sequence of kernel launches over static buffers: the prompt, a step, and the beam search in it.

Its layers are one launch (kernels/persistent_layers.py) or a chain of eight Triton kernels each, as its weights are
packed; the vocabulary projection and the search behind them are the same.

Nothing here waits for the device or allocates: each method can be captured into a CUDA graph. The same launches run
in Triton's interpreter on a CPU, which is how CI tests them.
"""

import torch
import triton

from whisper_speedup.fused.device_weights import DeviceWeights, NormedProduct, Product
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.beam_state import BeamState
from whisper_speedup.kernels.beam_update import beam_update
from whisper_speedup.kernels.cross_attention import CrossAttentionScratch, cross_attention
from whisper_speedup.kernels.cross_layout import UNIT_VALUES, cross_layout
from whisper_speedup.kernels.decoder_layers import decoder_layers
from whisper_speedup.kernels.embed import embed
from whisper_speedup.kernels.linear_residual import linear_residual
from whisper_speedup.kernels.norm_linear import norm_linear
from whisper_speedup.kernels.norm_qkv import norm_qkv
from whisper_speedup.kernels.persistent_layers import PersistentLayers
from whisper_speedup.kernels.persistent_packing import PackedLayers
from whisper_speedup.kernels.self_attention import self_attention
from whisper_speedup.kernels.stream import ROWS, Stream
from whisper_speedup.kernels.vocabulary import END_OF_TEXT, SUPPRESSED, SUPPRESSED_AT_BEGIN, vocabulary

MAX_BEAMS = 8
PROJECTED_TOGETHER = 8  # matrices of keys or values in one product: 31 MB of large-v2's, less than L2 holds


class DeviceDecoder:
    """Buffers and launches for one set of settings. `cross`, cross-attention's keys and values, is filled by
    `project`: (2 layers, source positions, d), or (layers, heads, units, 2, 2048) as the one launch reads them.

    `positions` bounds the sequence, prompt included. `min_length` is a setting of its own so that a warm-up can
    forbid end-of-text.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        settings: DecodingSettings,
        source_positions: int,
        positions: int,
        launch: LaunchConfig,
    ) -> None:
        self.weights, self.settings, self.launch = weights, settings, launch
        device, dtype = weights.embedding.device, weights.embedding.dtype
        size, width = weights.embedding.shape
        packed = weights.layers if isinstance(weights.layers, PackedLayers) else None
        layers, beams = weights.cross_weight.shape[0] // 2, settings.num_beams
        self.size, self.positions = size, positions
        self.persistent: PersistentLayers | None = None
        if packed is not None and weights.one_launch is not None:
            self.persistent = PersistentLayers(packed, weights.one_launch.eps, weights.one_launch.launch)
            # Values that no key of the last unit stands for are never written, and must be numbers.
            shape = (layers, packed.plan.heads, packed.plan.all_units, 2, UNIT_VALUES)
            self.cross = torch.zeros(shape, device=device, dtype=dtype)
            together = min(PROJECTED_TOGETHER, 2 * layers)
            self.projected = torch.zeros(together, source_positions, width, device=device, dtype=dtype)
        else:
            self.cross = torch.zeros(2 * layers, source_positions, width, device=device, dtype=dtype)
            self.scratch = CrossAttentionScratch(weights.heads, width // weights.heads, launch.cross_shares, device)
        self.keys = torch.zeros(layers, positions, beams, width, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.stream = Stream(width, dtype, device)
        self.query = torch.zeros(ROWS, width, device=device, dtype=dtype)
        self.attended = torch.zeros_like(self.query)
        if isinstance(weights.layers, tuple):
            self.hidden = torch.zeros(ROWS, weights.layers[0].fc1.weight.shape[0], device=device, dtype=dtype)
        tiles = triton.cdiv(size, launch.vocabulary.block_n)
        self.peak = torch.zeros(tiles, ROWS, dtype=torch.float32, device=device)
        self.norm = torch.zeros_like(self.peak)
        self.candidates = torch.zeros(tiles, ROWS, 2 * beams, device=device, dtype=torch.int64)
        self.state = BeamState(positions, device)
        self.rules = vocabulary_rules(settings, size, device)
        self.zero = torch.zeros(1, dtype=torch.int32, device=device)

    def project(self, states: torch.Tensor) -> None:
        """Encoder states (source positions, d) to every layer's cross-attention keys and values."""
        weight, bias, persistent = self.weights.cross_weight, self.weights.cross_bias, self.persistent
        if persistent is None:
            count, out = weight.shape[0], self.cross
        else:  # some layers at a time, which stay in L2 until they have been laid out anew
            count, out = self.projected.shape[0], self.projected
        for first in range(0, weight.shape[0], count):
            some, its_bias = weight[first : first + count], bias[first : first + count]
            rows, columns = states.expand(some.shape[0], -1, -1), some.transpose(1, 2)
            if persistent is None:
                torch.baddbmm(its_bias, rows, columns, out=out)
                continue
            torch.bmm(rows, columns, out=out[: some.shape[0]])
            cross_layout(out[: some.shape[0]], its_bias, self.cross[first // 2 : (first + some.shape[0]) // 2])

    def prompt(self, tokens: torch.Tensor, max_total: int, min_length: int) -> None:
        """Start an utterance: run the prompt (length <= 8,) int32 at batch 1 and choose the first tokens."""
        length = tokens.shape[0]
        self.state.reset(length)
        self._layers(tokens, length, self.zero, prompt=True)
        self._choose(length - 1, 1, length, max_total, min_length)

    def step(self, prompt_length: int, max_total: int, min_length: int) -> None:
        """Decode one token for every beam and advance the search; changes nothing once it is over."""
        beams = self.settings.num_beams
        self._layers(self.state.tokens[:beams], beams, self.state.position, prompt=False)
        self._choose(0, beams, prompt_length, max_total, min_length)

    def hidden_states(self, tokens: torch.Tensor, rows: int, start: torch.Tensor, prompt: bool) -> torch.Tensor:
        """The layers alone, for a search outside: tokens (rows,) int32 to the residual stream (rows, d) fp32, before
        the last layer norm. `prompt`: rows are one sequence's tokens from `start` on, else one token a beam."""
        self._layers(tokens, rows, start, prompt)
        return self.stream.residual[:rows]

    def _layers(self, tokens: torch.Tensor, rows: int, start: torch.Tensor, prompt: bool) -> None:
        weights, stream, pdl = self.weights, self.stream, self.launch.pdl
        if self.persistent is not None:
            self.persistent.run(
                tokens, start, weights.embedding, weights.positions, self.state.ancestry, self.keys, self.values,
                self.cross, stream, prompt, self.state.done,
            )  # fmt: skip
            return
        layers = weights.chain
        embed(tokens, weights.embedding, weights.positions, start, stream, layers[0].qkv.gamma, prompt, pdl=pdl)
        decoder_layers(TritonOps(self, rows, start, prompt), layers)

    def _choose(self, first: int, sources: int, prompt_length: int, max_total: int, min_length: int) -> None:
        settings, projection, pdl = self.settings, self.weights.projection, self.launch.pdl
        vocabulary(
            self.stream, first, sources, projection.weight, projection.w_gamma, projection.offset, self.rules,
            self.state.length, self.peak, self.norm, self.candidates, projection.eps, prompt_length, min_length,
            **vars(self.launch.vocabulary), pdl=pdl, done=self.state.done, scale=projection.scale,
        )  # fmt: skip
        beam_update(
            self.state, self.peak, self.norm, self.candidates, sources, settings.num_beams, self.size, prompt_length,
            max_total, settings.eos, settings.length_penalty, settings.early_stopping, self.launch.update_warps, pdl,
        )  # fmt: skip


class TritonOps:
    """See Ops: eight kernels a layer over a DeviceDecoder's buffers, for `rows` rows from position `start` (1,) on."""

    def __init__(self, decoder: DeviceDecoder, rows: int, start: torch.Tensor, prompt: bool) -> None:
        self.decoder, self.launch, self.stream = decoder, decoder.launch, decoder.stream
        self.query, self.attended, self.hidden = (
            buffer[:rows] for buffer in (decoder.query, decoder.attended, decoder.hidden)
        )
        self.heads, self.start, self.prompt = decoder.weights.heads, start, prompt
        self.out = self.query

    def qkv(self, index: int, product: NormedProduct) -> None:
        """See Ops."""
        norm_qkv(
            self.stream, product.weight, product.w_gamma, product.offset, self.query, self.decoder.keys[index],
            self.decoder.values[index], self.start, product.eps, self.prompt, **vars(self.launch.qkv),
            pdl=self.launch.pdl, scale=product.scale,
        )  # fmt: skip

    def self_attend(self, index: int) -> None:
        """See Ops."""
        decoder, launch = self.decoder, self.launch
        self_attention(
            self.query, decoder.keys[index], decoder.values[index], decoder.state.ancestry, self.start, self.attended,
            self.heads, self.prompt, launch.self_block, launch.self_warps, launch.pdl,
        )  # fmt: skip
        self.out = self.attended

    def add(self, product: Product) -> None:
        """See Ops."""
        launch = self.launch
        tile, splits = (launch.out, launch.out_splits) if self.out is self.attended else (launch.fc2, launch.fc2_splits)
        linear_residual(
            self.out, product.weight, product.bias, self.stream, product.then.gamma, **vars(tile), splits=splits,
            pdl=launch.pdl, scale=product.scale,
        )  # fmt: skip

    def normed(self, product: NormedProduct, gelu: bool = False) -> None:
        """See Ops."""
        self.out, tile = (self.hidden, self.launch.fc1) if gelu else (self.query, self.launch.query)
        norm_linear(
            self.stream, product.weight, product.w_gamma, product.offset, self.out, product.eps, gelu, **vars(tile),
            pdl=self.launch.pdl, scale=product.scale,
        )  # fmt: skip

    def cross_attend(self, index: int) -> None:
        """See Ops."""
        cross, scratch = self.decoder.cross, self.decoder.scratch
        cross_attention(
            self.query, cross[2 * index], cross[2 * index + 1], self.attended, self.heads, scratch,
            self.launch.cross_warps, self.launch.pdl,
        )  # fmt: skip
        self.out = self.attended


def vocabulary_rules(settings: DecodingSettings, size: int, device: torch.device) -> torch.Tensor:
    """(size,) int8: which tokens may not come next, and when, as kernels/vocabulary.py reads it."""
    rules = torch.zeros(size, dtype=torch.int8)
    rules[list(settings.suppress)] |= SUPPRESSED
    rules[list(settings.begin_suppress)] |= SUPPRESSED_AT_BEGIN
    rules[settings.eos] |= END_OF_TEXT
    return rules.to(device)
