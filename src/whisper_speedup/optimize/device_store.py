"""A decode's keys and values on a GPU: one utterance, at most 8 rows, the step one CUDA graph of the Triton kernels.

The prompt runs once, through transformers' own decoder, whatever its length; its keys and values are copied in. From
then on a step is one replay: the kernels read positions and ancestry on the device, so that one graph serves them all.
"""

import weakref
from collections.abc import Iterator

import torch
from torch.nn.functional import layer_norm
from transformers import DynamicCache, EncoderDecoderCache
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_decoder import MAX_BEAMS, DeviceDecoder
from whisper_speedup.fused.device_weights import DeviceWeights, pack_device_decoder
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.optimize.stand_in import plain_forward
from whisper_speedup.optimize.store import States, same_within_utterances

KEPT = 4  # sets of buffers: several numbers of rows, or several decodes of one number at a time


class Kernels:
    """The packed weights of one decoder and the buffers over them; `graphs=False` launches kernel by kernel."""

    def __init__(self, decoder: WhisperDecoder, dtype: torch.dtype, launch: LaunchConfig, graphs: bool) -> None:
        self.decoder, self.dtype, self.launch, self.graphs = decoder, dtype, launch, graphs
        with torch.inference_mode(False), torch.no_grad():
            embedding = decoder.embed_tokens.weight
            self.weights: DeviceWeights = pack_device_decoder(decoder, embedding, decoder.device, dtype)
        self.buffers: list[Buffers] = []

    def lease(self, rows: int) -> "Buffers | None":
        """Buffers for so many rows that no living store holds, the least recently used given up for them; or None."""
        if rows > MAX_BEAMS:
            return None
        free = [one for one in self.buffers if one.free()]
        found = next((one for one in free if one.rows == rows), None)
        if found is None:
            if len(self.buffers) >= KEPT:
                if not free:
                    return None
                self.buffers.remove(free[0])
            with torch.inference_mode(False), torch.no_grad():
                found = Buffers(self, rows)
        else:
            self.buffers.remove(found)
        self.buffers.append(found)
        return found


class Buffers:
    """Static buffers for one number of rows, and the step over them, captured when it first runs."""

    def __init__(self, kernels: Kernels, rows: int) -> None:
        source, target = kernels.decoder.max_source_positions, kernels.decoder.max_target_positions
        self.rows, self.graphs, self.norm = rows, kernels.graphs, kernels.decoder.layer_norm
        self.decoder = DeviceDecoder(kernels.weights, _no_search(rows, target), source, target, kernels.launch)
        self.state = self.decoder.state
        self.own = torch.arange(rows, dtype=torch.int32, device=self.state.tokens.device)[:, None]
        self.states = torch.zeros(rows, kernels.decoder.config.d_model, dtype=torch.float32, device=self.own.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.holder: weakref.ref[DeviceStore] | None = None

    def free(self) -> bool:
        """Whether no living store holds them."""
        return self.holder is None or self.holder() is None

    def step(self, tokens: torch.Tensor, position: int) -> torch.Tensor:
        """One token a row, (rows, 1), at `position`; returns states (rows, d), fp32, after the last layer norm."""
        self.state.tokens[: self.rows].copy_(tokens[:, 0])
        # Warming up runs two steps ahead; what it writes there is written again before it is read.
        if self.graphs and self.graph is None and position + 2 < self.decoder.positions:
            self._capture(position)
        if self.graph is not None:
            self.graph.replay()
        else:
            self._step()
        return self.states.clone()

    def block(self, tokens: torch.Tensor) -> torch.Tensor:
        """Several tokens of one row, (1, count <= 8); returns states (count, d), fp32, after the last layer norm."""
        ids, state = tokens[0].to(torch.int32), self.state
        residual = self.decoder.hidden_states(ids, ids.shape[0], state.position, prompt=True)
        state.position += ids.shape[0]
        return self._last_norm(residual)

    def _step(self) -> None:
        state = self.state
        position = state.position.long().expand(self.rows, 1)
        state.ancestry[: self.rows].scatter_(1, position, self.own)
        residual = self.decoder.hidden_states(state.tokens[: self.rows], self.rows, state.position, prompt=False)
        self.states.copy_(self._last_norm(residual))
        state.position += 1

    def _last_norm(self, residual: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        return layer_norm(residual, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)

    def _capture(self, position: int) -> None:
        device = self.own.device
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            self.graph = capture(device, {"step": self._step})["step"]
            self.state.position.fill_(position)


class DeviceStore:
    """See Store; one utterance."""

    def __init__(self, owner: object, kernels: Kernels, buffers: Buffers, encoder_states: torch.Tensor) -> None:
        """Start from encoder states (rows, source_positions, d), all rows equal, on buffers for so many rows."""
        self.owner, self.kernels, self.buffers = owner, kernels, buffers
        self.rows, self.source_positions, _ = encoder_states.shape
        self.beams = self.rows
        self.layers = len(kernels.decoder.layers)
        self.length = 0
        self.encoder_states: torch.Tensor | None = encoder_states
        self.dtype = encoder_states.dtype
        buffers.holder = weakref.ref(self)

    def extends(self, count: int) -> bool:
        """A prompt of any length; then one token a row, or up to 8 of a single row."""
        return self.encoder_states is not None or count == 1 or (self.rows == 1 and count <= ROWS)

    def extend(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Store."""
        count = tokens.shape[1]
        if self.encoder_states is not None:
            states = self._prompt(tokens, self.encoder_states)
            self.encoder_states = None
        elif count == 1:
            states = self.buffers.step(tokens, self.length)[:, None]
        else:
            states = self.buffers.block(tokens)[None]
        self.length += count
        return states.to(self.dtype)

    def reorder(self, parents: torch.Tensor) -> None:
        """See Store."""
        ancestry = self.buffers.state.ancestry
        ancestry[: self.rows] = ancestry[parents]

    def crop(self, count: int) -> None:
        """See Store."""
        self.length -= count
        self.buffers.state.position.fill_(self.length)

    def self_states(self) -> Iterator[States]:
        """See Store."""
        decoder = self.buffers.decoder
        time = torch.arange(self.length, device=decoder.keys.device)
        slot = self.buffers.state.ancestry[: self.rows, : self.length].long()
        for key, value in zip(decoder.keys, decoder.values, strict=True):
            yield self._heads(key[time, slot]), self._heads(value[time, slot])

    def cross_states(self) -> Iterator[States]:
        """See Store."""
        cross = self.buffers.decoder.cross
        for key, value in zip(cross[::2], cross[1::2], strict=True):
            yield self._heads(key.expand(self.rows, -1, -1)), self._heads(value.expand(self.rows, -1, -1))

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """(rows, time, d) to (rows, heads, time, head_dim), in the decoder's type."""
        return states.unflatten(2, (self.kernels.weights.heads, -1)).transpose(1, 2).to(self.dtype)

    def _prompt(self, tokens: torch.Tensor, encoder_states: torch.Tensor) -> torch.Tensor:
        """Run the prompt through transformers' decoder and take over what its cache holds."""
        shared = same_within_utterances(tokens, self.beams)
        rows = 1 if shared else self.rows
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        decoder, buffers = self.kernels.decoder, self.buffers
        output = plain_forward(decoder)(
            input_ids=tokens[:rows], encoder_hidden_states=encoder_states[:rows], past_key_values=cache,
            use_cache=True, return_dict=True,
        )  # fmt: skip
        count = tokens.shape[1]
        for index in range(self.layers):
            own, cross = (half.layers[index] for half in (cache.self_attention_cache, cache.cross_attention_cache))
            for buffer, states in ((buffers.decoder.keys, own.keys), (buffers.decoder.values, own.values)):
                buffer[index, :count, :rows].copy_(states.permute(2, 0, 1, 3).flatten(2))
            for half, states in enumerate((cross.keys, cross.values)):
                buffers.decoder.cross[2 * index + half].copy_(states[0].transpose(0, 1).flatten(1))
        buffers.state.position.fill_(count)
        buffers.state.ancestry[: self.rows, :count] = 0 if shared else buffers.own
        states = output.last_hidden_state
        return states.repeat_interleave(self.rows, 0) if shared else states


def _no_search(rows: int, positions: int) -> DecodingSettings:
    """Settings for a decoder whose search is transformers': only the number of rows counts."""
    return DecodingSettings(
        prompt=(), num_beams=rows, max_new_tokens=positions, min_length=0, length_penalty=1.0, early_stopping=False,
        eos=0, suppress=(), begin_suppress=(), languages=(), timestamp_begin=0, max_positions=positions,
    )  # fmt: skip
