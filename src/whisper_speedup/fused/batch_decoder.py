"""The decoder for many utterances as launches over static buffers: fixed slots, each at a position of its own.

A step runs one token for each beam of every slot. A slot that has just been filled runs its prompt first: its rows are
then consecutive prompt tokens in place of beams, so that a prompt no longer than the beams are many costs one step and
reads the cross-attention keys and values once. A slot that has ended, or never began, takes its rows of the products
and nothing else: no attention, no candidates, no search.

With 5 rows a slot the products are matrix products of hundreds of rows, which cuBLAS does well; their biases are added
by the kernel behind them. The cross-attention values carry no bias: weights that sum to 1 pass it on unchanged, so it
goes through the output product once, when the weights are packed.

Nothing here waits for the device or allocates but `start`, which is no part of the graph; Triton's interpreter runs the
same launches on a CPU.
"""

from dataclasses import dataclass, replace

import torch
import triton

from whisper_speedup.fused.device_decoder import MAX_BEAMS, vocabulary_rules
from whisper_speedup.fused.device_weights import DeviceWeights, NormedProduct, Product
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.add_norm import add_norm, embed_rows
from whisper_speedup.kernels.batch_cross_attention import BatchCrossScratch, batch_cross_attention
from whisper_speedup.kernels.batch_self_attention import batch_self_attention
from whisper_speedup.kernels.beam_state import BatchState
from whisper_speedup.kernels.beam_update import beam_update
from whisper_speedup.kernels.bias_gelu import bias_gelu
from whisper_speedup.kernels.collect import collect
from whisper_speedup.kernels.decoder_layers import decoder_layers
from whisper_speedup.kernels.row_candidates import row_candidates
from whisper_speedup.kernels.stream import ROWS


@dataclass(frozen=True)
class BatchLaunch:
    """How the step's kernels are launched; measured on an H100 at large-v2's shape."""

    cross_shares: int = 2
    cross_block: int = 64
    cross_warps: int = 4
    cross_stages: int = 3
    self_group: int = 4
    self_block: int = 16
    self_warps: int = 4
    candidates_block: int = 1024
    candidates_warps: int = 1
    update_warps: int = 4


class BatchDecoder:
    """Buffers and launches for `slots` utterances of at most `positions` tokens, prompt included.

    `cross` (slots, 2 layers, source positions, d): keys and values, written by `project`.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        settings: DecodingSettings,
        source_positions: int,
        slots: int,
        launch: BatchLaunch,
    ) -> None:
        assert settings.num_beams <= MAX_BEAMS
        self.weights, self.settings, self.launch, self.slots = weights, settings, launch, slots
        device, dtype = weights.embedding.device, weights.embedding.dtype
        size, width = weights.projection.weight.shape
        layers, beams, positions = len(weights.chain), settings.num_beams, settings.max_total(0)
        rows = slots * beams
        self.size = size
        self.cross = torch.zeros(slots, 2 * layers, source_positions, width, device=device, dtype=dtype)
        self.keys = torch.zeros(layers, slots, positions, beams, width, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.residual = torch.zeros(rows, width, dtype=torch.float32, device=device)
        self.normed, self.query, self.attended, self.product = (
            torch.zeros(rows, width, device=device, dtype=dtype) for _ in range(4)
        )
        self.qkv = torch.zeros(rows, 3 * width, device=device, dtype=dtype)
        self.hidden = torch.zeros(rows, weights.chain[0].fc1.weight.shape[0], device=device, dtype=dtype)
        # The vocabulary's size is odd, and for a product that is no multiple of 8 columns wide cuBLAS takes six times
        # as long: so there are some columns more.
        self.projection = torch.nn.functional.pad(weights.projection.weight, (0, 0, 0, -size % 64))
        self.logits = torch.zeros(rows, self.projection.shape[0], dtype=torch.float32, device=device)
        tiles = triton.cdiv(size, launch.candidates_block)
        self.peak, self.norm = (torch.zeros(slots, tiles, ROWS, dtype=torch.float32, device=device) for _ in range(2))
        self.candidates = torch.zeros(slots, tiles, ROWS, 2 * beams, device=device, dtype=torch.int64)
        self.state = BatchState(slots, positions, device)
        self.scratch = BatchCrossScratch(slots, weights.heads, width // weights.heads, launch.cross_shares, device)
        self.rules = vocabulary_rules(settings, size, device)
        self.prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=device)
        self.prompt_length = len(settings.prompt)
        self.first_row = (self.prompt_length - 1) % beams
        value_biases = weights.cross_bias[1::2, 0].float()
        self.layers = [
            replace(layer, cross_out=_with_value_bias(layer.cross_out, bias))
            for layer, bias in zip(weights.chain, value_biases, strict=True)
        ]

    def start(self, slot: int, encoder_states: torch.Tensor, limit: int) -> None:
        """Put an utterance into `slot`: its encoder states (source positions, d) to every layer's keys and values, and
        the longest sequence it may reach, prompt included."""
        weight = self.weights.cross_weight
        torch.bmm(
            encoder_states.expand(weight.shape[0], -1, -1), weight.transpose(1, 2), out=self.cross[slot]
        )  # fmt: skip
        self.state.start(slot, self.prompt_length, self.first_row, limit)

    def step(self, slots: int, min_length: int) -> None:
        """One step of the first `slots` slots, and for those that end with it their results to the host's memory."""
        weights, settings, launch, state = self.weights, self.settings, self.launch, self.state
        beams = settings.num_beams
        ops = BatchOps(self, slots)
        first = self.layers[0].qkv
        embed_rows(
            state.tokens, self.prompt, state.position, weights.embedding, weights.positions, first.gamma, ops.residual,
            ops.x, first.eps, beams,
        )  # fmt: skip
        decoder_layers(ops, self.layers)
        logits = self.logits[: slots * beams]
        self._product_fp32(ops.x, self.projection, logits)
        row_candidates(
            logits[:, : self.size], weights.projection.offset, self.rules, state.length, state.done, self.peak[:slots],
            self.norm[:slots], self.candidates[:slots], self.prompt_length, min_length, beams, launch.candidates_block,
            launch.candidates_warps,
        )  # fmt: skip
        beam_update(
            state, self.peak[:slots], self.norm[:slots], self.candidates[:slots], beams, beams, self.size,
            self.prompt_length, settings.max_total(0), settings.eos, settings.length_penalty, settings.early_stopping,
            launch.update_warps, first_row=self.first_row, limits=state.limits,
        )  # fmt: skip
        collect(state, slots)

    @staticmethod
    def _product_fp32(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
        """x W^T accumulated and left in fp32; on a CPU torch has no such product of halves, so x and W are fp32."""
        if x.dtype == torch.float32:
            torch.mm(x, weight.T, out=out)
        elif x.is_cuda:
            torch.mm(x, weight.T, out_dtype=torch.float32, out=out)
        else:
            torch.mm(x.float(), weight.float().T, out=out)


class BatchOps:
    """See Ops: products by cuBLAS, kernels between them, over the first `slots` slots of a BatchDecoder's buffers.

    `x` is what the next product reads; whoever adds to the residual stream leaves it normalised there.
    """

    def __init__(self, decoder: BatchDecoder, slots: int) -> None:
        rows = slots * decoder.settings.num_beams
        self.decoder, self.state, self.launch = decoder, decoder.state, decoder.launch
        self.residual, self.normal, self.query, self.attended, self.product, self.three, self.hidden = (
            buffer[:rows]
            for buffer in (
                decoder.residual, decoder.normed, decoder.query, decoder.attended, decoder.product, decoder.qkv,
                decoder.hidden,
            )
        )  # fmt: skip
        self.x = self.normal
        self.offset = decoder.weights.projection.offset  # of the last product, for the kernel that adds it

    def qkv(self, index: int, product: NormedProduct) -> None:
        """See Ops."""
        torch.mm(self.x, product.weight.T, out=self.three)
        self.offset = product.offset

    def self_attend(self, index: int) -> None:
        """See Ops."""
        decoder, state, launch = self.decoder, self.state, self.launch
        batch_self_attention(
            self.three, self.offset, decoder.keys[index], decoder.values[index], state.ancestry, state.position,
            state.done, self.attended, decoder.prompt_length, decoder.weights.heads, launch.self_group,
            launch.self_block, launch.self_warps,
        )  # fmt: skip
        self.x = self.attended

    def add(self, product: Product) -> None:
        """See Ops."""
        torch.mm(self.x, product.weight.T, out=self.product)
        add_norm(
            self.residual, self.product, product.bias, product.then.gamma, None, self.normal, product.then.eps
        )  # fmt: skip
        self.x = self.normal

    def normed(self, product: NormedProduct, gelu: bool = False) -> None:
        """See Ops."""
        out = self.hidden if gelu else self.query
        torch.mm(self.x, product.weight.T, out=out)
        if gelu:
            bias_gelu(out, product.offset)
        self.x, self.offset = out, product.offset

    def cross_attend(self, index: int) -> None:
        """See Ops."""
        decoder, launch = self.decoder, self.launch
        keys, values = decoder.cross[:, 2 * index], decoder.cross[:, 2 * index + 1]
        batch_cross_attention(
            self.query, self.offset, keys, values, self.state.done, self.attended, decoder.weights.heads,
            decoder.settings.num_beams, decoder.scratch, launch.cross_block, launch.cross_warps, launch.cross_stages,
        )  # fmt: skip
        self.x = self.attended


def _with_value_bias(product: Product, bias: torch.Tensor) -> Product:
    """Cross-attention's output product with what its values' bias (d,) adds, once and for all."""
    return replace(product, bias=product.bias.float() + product.weight.float() @ bias)


def slot_bytes(weights: DeviceWeights, settings: DecodingSettings, source_positions: int) -> int:
    """What one more slot takes, its rows of the activations included."""
    size, width = weights.projection.weight.shape
    layers, beams, itemsize = len(weights.chain), settings.num_beams, weights.embedding.dtype.itemsize
    states = 2 * layers * (source_positions + settings.max_total(0) * beams) * width * itemsize
    return states + beams * (4 * size + 12 * width * itemsize + 4 * width)
