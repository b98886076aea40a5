"""The forward that `optimize_model` puts in the place of a Whisper decoder's own.

What it serves it serves from a store behind the cache; for everything else the decoder's own forward runs, and the
cache, if we filled it, turns into an ordinary one on the way. So a call is never refused and never wrong.

On a GPU its layers are the chain of Triton kernels, and never one launch: that one may give up (kernels/
persistent_layers.py), and a forward, which does not wait for the GPU, could neither say so nor go on.
"""

import threading
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.fused.launch import LaunchConfig, load_launch_config
from whisper_speedup.fused.weights import LayerStack, pack_stack
from whisper_speedup.optimize.served import Unserved, kernel_dtype, why_not, why_not_positions
from whisper_speedup.optimize.stand_in import StandInDecoder, plain_forward, put_in, take_out
from whisper_speedup.optimize.states import adopt, adoptable, store_behind
from whisper_speedup.optimize.store import Store, rows_per_utterance
from whisper_speedup.optimize.torch_store import TorchStore
from whisper_speedup.optimize.watch import Watch, why_changed


@dataclass(frozen=True)
class PathTaken:
    """Where a call ran: in the fused engine, through the optimised decoder, or as transformers alone runs it."""

    path: Literal["whole model", "decoder", "original"]
    reason: str | None


class DecoderPath:
    """Runs one WhisperDecoder. `counts`: forwards by path, `decoder`, `original` and `original, quietly`."""

    def __init__(self, decoder: WhisperDecoder, launch: LaunchConfig | None = None) -> None:
        """`launch`: run the kernels, one by one, in any type and on any device; for Triton's interpreter."""
        self.decoder = decoder
        self.launch = launch
        self.lock = threading.Lock()  # packing and leasing; two threads may decode with one model
        self.warned: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.last: PathTaken | None = None
        self.last_reason: str | None = None
        self.trained = 0  # forwards in training mode or with gradients
        self.watch = Watch(decoder)
        self._forget()

    @property
    def module(self) -> WhisperDecoder:
        """The decoder that this serves."""
        return self.decoder

    def _forget(self) -> None:
        self.changed: str | None = None
        self.stack: LayerStack | None = None
        self.kernels: Any = None
        self.weights = object()  # what a cache was filled with, as its owner

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle packs its own weights."""
        return {"decoder": self.decoder, "launch": self.launch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def install(self) -> None:
        """Put our forward in the place of the decoder's."""
        put_in(self.decoder, StandInDecoder, self)

    def remove(self) -> None:
        """Give the decoder its own forward back, and free the packed weights."""
        take_out(self.decoder)
        self.forget()

    def forget(self) -> None:
        """Look at the decoder again and pack it again before the next decode."""
        self.watch.forget()
        self._forget()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """WhisperDecoder.forward: tokens (rows, count) in, states (rows, count, d) after the last layer norm out."""
        served = _serve(
            self, input_ids, attention_mask, encoder_hidden_states, past_key_values, inputs_embeds, position_ids,
            use_cache, kwargs,
        )  # fmt: skip
        if isinstance(served, Unserved):
            return self.original(
                served, input_ids=input_ids, attention_mask=attention_mask, encoder_hidden_states=encoder_hidden_states,
                past_key_values=past_key_values, inputs_embeds=inputs_embeds, position_ids=position_ids,
                use_cache=use_cache, **kwargs,
            )  # fmt: skip
        self.counts["decoder"] += 1
        self.last = PathTaken("decoder", None)
        self.watch.rest()
        if kwargs.get("return_dict", getattr(self.decoder.config, "return_dict", True)) is False:
            return served.to_tuple()
        return served

    def original(self, unserved: Unserved, **arguments: Any) -> Any:
        """The decoder's own forward, with one warning for each reason."""
        self.counts["original, quietly" if unserved.quiet else "original"] += 1
        self.last_reason = unserved.reason
        self.last = PathTaken("original", unserved.reason)
        if not unserved.quiet and unserved.reason not in self.warned:
            self.warned.add(unserved.reason)
            warnings.warn(
                f"whisper_speedup: transformers' own decoder runs here, because {unserved.reason}.", stacklevel=7
            )
        return plain_forward(self.decoder)(**arguments)

    def new_store(self, encoder_states: torch.Tensor) -> Store | Unserved:
        """A store for encoder states (rows, positions, d)."""
        with self.lock:
            return self._new_store(encoder_states)

    def _new_store(self, encoder_states: torch.Tensor) -> Store | Unserved:
        reason = self.look()
        if reason is not None:
            return Unserved(reason)
        beams = rows_per_utterance(encoder_states)
        store = self._device_store(encoder_states) if beams == encoder_states.shape[0] else None
        if store is not None:
            return store
        if torch.is_autocast_enabled(self.decoder.device.type):
            return Unserved("autocast is on, and this call is not one for the kernels")
        return TorchStore(self.weights, self.packed(), encoder_states, beams)

    def _device_store(self, encoder_states: torch.Tensor) -> Store | None:
        """A store of the kernels, or None where they do not run; states of one utterance, all rows equal."""
        dtype = self.kernel_dtype()
        if dtype is None:
            return None
        kernels = self.device_kernels(dtype)
        buffers = kernels.lease(encoder_states.shape[0])
        if buffers is None:
            return None
        from whisper_speedup.optimize.device_store import DeviceStore

        return DeviceStore(self.weights, kernels, buffers, encoder_states)

    def kernel_dtype(self) -> torch.dtype | None:
        """The type in which the Triton kernels would run now, or None where they do not."""
        return kernel_dtype(self.decoder) if self.launch is None else self.decoder.dtype

    def launch_config(self) -> LaunchConfig:
        """How the Triton kernels are launched."""
        if self.launch is not None:
            return self.launch
        return load_launch_config(torch.cuda.get_device_name(self.decoder.device), self.decoder.config.d_model)

    def device_kernels(self, dtype: torch.dtype) -> Any:
        """The weights packed for the Triton kernels, and their buffers."""
        # Triton is needed, and there, only now.
        from whisper_speedup.optimize.device_store import Kernels

        if self.kernels is None or self.kernels.dtype != dtype:
            self.kernels = Kernels(self.decoder, dtype, self.launch_config(), graphs=self.launch is None)
        return self.kernels

    def look(self) -> str | None:
        """Look at the decoder: why it can't be served, or None. Weights that changed are forgotten."""
        if self.watch.look(self.trained):
            self._forget()
            self.changed = why_changed(self.decoder)
        return self.changed

    def settle(self) -> None:
        """Forget the weights if the GPU has found meanwhile that they are not those that were packed; somebody who
        trains makes the next look a thorough one."""
        if self.watch.differs():
            self._forget()
        if self.decoder.training or torch.is_grad_enabled():
            self.trained += 1

    def packed(self) -> LayerStack:
        """The decoder's weights as `look` has just seen them."""
        if self.stack is None:
            with torch.inference_mode(False), torch.no_grad():
                self.stack = pack_stack(self.decoder, self.decoder.device, self.decoder.dtype)
        return self.stack


def _serve(
    self: DecoderPath,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor | None,
    past_key_values: Any,
    inputs_embeds: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    use_cache: bool | None,
    kwargs: dict[str, Any],
) -> BaseModelOutputWithPastAndCrossAttentions | Unserved:
    decoder = self.decoder
    if not torch.compiler.is_compiling():
        self.settle()
    unserved = why_not(decoder, input_ids, encoder_hidden_states, inputs_embeds, use_cache, kwargs)
    if unserved is not None or input_ids is None or encoder_hidden_states is None:
        return unserved or Unserved("tokens or encoder states are missing")
    store = store_behind(past_key_values)
    if store is not None and store.owner is not self.weights:
        return Unserved("another decoder filled the cache, or the weights have changed since")
    length = store.length if store is not None else 0
    unserved = why_not_positions(decoder, input_ids, length, attention_mask, position_ids)
    if unserved is not None:
        return unserved
    if store is None:
        cache = _empty_cache(past_key_values)
        if cache is None:
            return Unserved("the cache is not generate's default one, or transformers filled it")
        made = self.new_store(encoder_hidden_states)
        if isinstance(made, Unserved):
            return made
        states = made.extend(input_ids)
        adopt(cache, made)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states, past_key_values=cache)
    if input_ids.shape[0] != store.rows:
        return Unserved(f"{input_ids.shape[0]} rows of tokens meet a cache of {store.rows}")
    if not store.extends(input_ids.shape[1]):
        return Unserved(f"{input_ids.shape[1]} tokens at once follow on a cache that is not empty")
    return BaseModelOutputWithPastAndCrossAttentions(
        last_hidden_state=store.extend(input_ids), past_key_values=past_key_values
    )


def _empty_cache(given: Any) -> EncoderDecoderCache | None:
    """The cache to fill, in place where one is given, as WhisperDecoder.forward does; None where we may not."""
    if given is None or (type(given) is DynamicCache and given.get_seq_length() == 0 and not given.offloading):
        return EncoderDecoderCache(DynamicCache(), DynamicCache())
    return given if adoptable(given) else None
