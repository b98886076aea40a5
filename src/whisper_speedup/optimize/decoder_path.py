"""The forward that `optimize_model` puts in the place of a Whisper decoder's own.

What it serves it serves from a store behind the cache; for everything else the decoder's own forward runs, and the
cache, if we filled it, turns into an ordinary one on the way. So a call is never refused and never wrong.
"""

import types
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from whisper_speedup.fused.weights import LayerStack, pack_stack
from whisper_speedup.optimize.states import adopt, adoptable, store_behind
from whisper_speedup.optimize.store import Store
from whisper_speedup.optimize.torch_store import TorchStore
from whisper_speedup.optimize.watch import marks, why_changed


@dataclass(frozen=True)
class Unserved:
    """Why the decoder's own forward runs; `quiet` where that is the normal course and no warning is due."""

    reason: str
    quiet: bool = False


@dataclass(frozen=True)
class PathTaken:
    """Where a call ran: in the fused engine, through the optimised decoder, or as transformers alone runs it."""

    path: Literal["whole model", "decoder", "original"]
    reason: str | None


class DecoderPath:
    """Runs one WhisperDecoder. `counts`: forwards by path, `decoder`, `original` and `original, quietly`."""

    def __init__(self, decoder: WhisperDecoder) -> None:
        self.decoder = decoder
        self.warned: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.last: PathTaken | None = None
        self.last_reason: str | None = None
        self._forget()

    def _forget(self) -> None:
        self.marks: list[Any] | None = None
        self.changed: str | None = None
        self.stack: LayerStack | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle packs its own weights."""
        return {**vars(self), "marks": None, "stack": None, "warned": set(), "counts": Counter()}

    def install(self) -> None:
        """Put our forward in the place of the decoder's."""
        self.decoder.forward = types.MethodType(forward, self)

    def remove(self) -> None:
        """Give the decoder its own forward back, and free the packed weights."""
        del self.decoder.forward
        self._forget()

    def original(self, unserved: Unserved, **arguments: Any) -> Any:
        """The decoder's own forward, with one warning for each reason."""
        self.counts["original, quietly" if unserved.quiet else "original"] += 1
        if not unserved.quiet:
            self.last_reason = unserved.reason
            self.last = PathTaken("original", unserved.reason)
            if unserved.reason not in self.warned:
                self.warned.add(unserved.reason)
                warnings.warn(
                    f"whisper_speedup: transformers' own decoder runs here, because {unserved.reason}.", stacklevel=6
                )
        return type(self.decoder).forward(self.decoder, **arguments)

    def new_store(self, encoder_states: torch.Tensor) -> Store | Unserved:
        """A store for encoder states (rows, positions, d)."""
        reason = self.look()
        return Unserved(reason) if reason is not None else TorchStore(self, self.packed(), encoder_states)

    def look(self) -> str | None:
        """Look at the decoder: why it can't be served, or None. Weights that changed are forgotten."""
        now = marks(self.decoder)
        if self.marks != now:
            self._forget()
            self.changed = why_changed(self.decoder)
            self.marks = now
        return self.changed

    def packed(self) -> LayerStack:
        """The decoder's weights as `look` has just seen them."""
        if self.stack is None:
            with torch.inference_mode(False), torch.no_grad():
                self.stack = pack_stack(self.decoder, self.decoder.device, self.decoder.dtype)
        return self.stack


def forward(
    self: DecoderPath,
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
        self, input_ids, attention_mask, encoder_hidden_states, past_key_values, inputs_embeds, position_ids, use_cache,
        kwargs,
    )  # fmt: skip
    if isinstance(served, Unserved):
        return self.original(
            served, input_ids=input_ids, attention_mask=attention_mask, encoder_hidden_states=encoder_hidden_states,
            past_key_values=past_key_values, inputs_embeds=inputs_embeds, position_ids=position_ids,
            use_cache=use_cache, **kwargs,
        )  # fmt: skip
    self.counts["decoder"] += 1
    self.last = PathTaken("decoder", None)
    if kwargs.get("return_dict", getattr(self.decoder.config, "return_dict", True)) is False:
        return served.to_tuple()
    return served


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
    unserved = why_not(decoder, input_ids, encoder_hidden_states, inputs_embeds, use_cache, kwargs)
    if unserved is not None or input_ids is None or encoder_hidden_states is None:
        return unserved or Unserved("tokens or encoder states are missing")
    store = store_behind(past_key_values)
    if store is not None and store.owner is not self:
        return Unserved("another decoder filled the cache")
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


def why_not(
    decoder: WhisperDecoder,
    input_ids: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    use_cache: bool | None,
    kwargs: dict[str, Any],
) -> Unserved | None:
    """What kind of call this is: None for one we serve, whatever its cache and positions."""
    config = decoder.config
    if torch.compiler.is_compiling():
        return Unserved("torch.compile traces it", quiet=True)
    if not (config.use_cache if use_cache is None else use_cache):
        return Unserved("no cache is asked for", quiet=True)
    if decoder.training:
        return Unserved("the decoder is in training mode (model.eval() ends that)")
    if torch.is_grad_enabled():
        return Unserved("gradients are on (torch.no_grad() turns them off)")
    for name in ("output_attentions", "output_hidden_states"):
        if kwargs.get(name, getattr(config, name, False)):
            return Unserved(f"{name} is asked for")
    unknown = sorted(key for key, value in kwargs.items() if key not in KNOWN and value is not None)
    if unknown:
        return Unserved(f"the argument {unknown[0]} is not known here")
    if inputs_embeds is not None or input_ids is None:
        return Unserved("embeddings come in the place of tokens")
    if encoder_hidden_states is None:
        return Unserved("there are no encoder states")
    if torch.is_autocast_enabled(decoder.device.type):
        return Unserved("autocast is on")
    if encoder_hidden_states.dtype != decoder.dtype:
        return Unserved(f"the encoder states are {encoder_hidden_states.dtype} and the decoder is {decoder.dtype}")
    if not input_ids.device == encoder_hidden_states.device == decoder.device:
        return Unserved("tokens, encoder states and decoder are on different devices")
    if encoder_hidden_states.shape[0] != input_ids.shape[0]:
        return Unserved("there are not as many encoder states as rows of tokens")
    return None


KNOWN = {"output_attentions", "output_hidden_states", "return_dict"}


def why_not_positions(
    decoder: WhisperDecoder,
    input_ids: torch.Tensor,
    length: int,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
) -> Unserved | None:
    """Positions must be consecutive and unpadded: length, length + 1, ... up to the model's limit."""
    rows, count = input_ids.shape
    end = length + count
    if end > decoder.max_target_positions:
        return Unserved(f"position {end} is beyond the model's {decoder.max_target_positions}")
    if attention_mask is not None and (attention_mask.shape != (rows, end) or not bool(attention_mask.all())):
        return Unserved("the decoder's attention mask hides some tokens")
    if position_ids is not None:
        expected = torch.arange(length, end, device=position_ids.device).expand(position_ids.shape[0], -1)
        if position_ids.shape not in ((1, count), (rows, count)) or not torch.equal(position_ids.long(), expected):
            return Unserved("the decoder's positions are not consecutive")
    return None


def _empty_cache(given: Any) -> EncoderDecoderCache | None:
    """The cache to fill, in place where one is given, as WhisperDecoder.forward does; None where we may not."""
    if given is None or (type(given) is DynamicCache and given.get_seq_length() == 0 and not given.offloading):
        return EncoderDecoderCache(DynamicCache(), DynamicCache())
    return given if adoptable(given) else None
