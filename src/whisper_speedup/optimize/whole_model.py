"""The `generate` that `optimize_model` puts in the place of a whole Whisper's: the fused engine where it does exactly
what the call asks for, else transformers' own loop over the optimised decoder."""

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration

from whisper_speedup.errors import ClipError, NotANumberError
from whisper_speedup.fused.device_checks import giving_up_told
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.optimize.decoder_path import DecoderPath, PathTaken
from whisper_speedup.optimize.effective import Asked, read_call, settings_of
from whisper_speedup.optimize.patched import generating, why_patched
from whisper_speedup.optimize.runner import Runner, make_runner, runner_dtype, why_no_runner, why_not_served
from whisper_speedup.optimize.stand_in import StandInModel, plain_generate, plain_type, put_in, take_out
from whisper_speedup.optimize.watch import Watch, hooked, why_changed

KEPT = 4  # settings whose buffers (and, on a GPU, graphs) are kept
KNOWN = 32  # calls whose settings are remembered
# What gave up took this process's context on the GPU with it.
INSTEAD = "give optimize_model the decoder alone (model.model.decoder), in a process that you start anew"


@dataclass(frozen=True)
class Choice:
    """What a call of `generate` will do; `features` and `settings` are for the whole-model path. `looked`: whether the
    model has been looked at."""

    taken: PathTaken
    features: torch.Tensor | None = None
    settings: DecodingSettings | None = None
    looked: bool = True


class WholeModel:
    """Stands behind one model's `generate`. `last`: the path that the last call took."""

    def __init__(self, model: WhisperForConditionalGeneration, decoder: DecoderPath) -> None:
        self.model, self.decoder = model, decoder
        self.last: PathTaken | None = None
        self.lock = threading.RLock()  # a runner's buffers serve one call at a time
        self.watch = Watch(model)
        self._forget()

    @property
    def module(self) -> WhisperForConditionalGeneration:
        """The model that this serves."""
        return self.model

    def _forget(self) -> None:
        self.changed: str | None = None
        self.replaced: list[Any] = []
        self.weights = object()  # what the runners were made of
        self.runners: OrderedDict[DecodingSettings, Runner] = OrderedDict()
        self.known: OrderedDict[tuple[str, str], DecodingSettings | str] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle makes its own runners."""
        return {"model": self.model, "decoder": self.decoder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def install(self) -> None:
        """Put our `generate` in the place of the model's."""
        put_in(self.model, StandInModel, self)

    def remove(self) -> None:
        """Give the model its own `generate` back, and free what was made for it."""
        take_out(self.model)
        self.watch.forget()
        self._forget()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """What WhisperForConditionalGeneration.generate returns for the same arguments.

        A model that was decoded with the same settings before is looked at while the GPU decodes. Where it turns out
        to have changed, the result is thrown away.
        """
        for known in (True, False):
            choice = self.choose(args, kwargs, known)
            if choice.features is None or choice.settings is None:
                break
            with self.lock, giving_up_told(self._gave_up, INSTEAD):
                runner, weights = self.runner(choice.settings), self.weights
                tokens: list[int] = []
                failed: Exception | None = None
                try:
                    tokens = runner.generate(choice.features, meanwhile=None if choice.looked else self._look).tokens
                except Exception as error:
                    if self.weights is weights and not isinstance(error, ClipError):
                        raise
                    failed = error
                self._settle()
                if self.weights is not weights:  # what was decoded with others does not count
                    continue
                if tokens:
                    self.last = choice.taken
                    return torch.tensor([tokens], dtype=torch.int64, device=self.model.device)
            if failed is not None and not isinstance(failed, NotANumberError):
                raise failed
            # transformers makes an error of no tokens, in some of its versions, and something of what is no number
            why = "the text is empty" if failed is None else "the model's output is not a number"
            choice = Choice(PathTaken("decoder", why))
            break
        else:
            choice = Choice(PathTaken("decoder", "the weights change while they are decoded with"))
        before = Counter(self.decoder.counts)
        result = plain_generate(self.model)(*args, **kwargs)
        ran = self.decoder.counts - before
        self.last = choice.taken
        if ran["original"] or not ran["decoder"]:  # a quiet pass beside ours, as language detection is, does not count
            self.last = PathTaken("original", self.decoder.last_reason)
        return result

    def choose(self, args: tuple[Any, ...], kwargs: dict[str, Any], known: bool = False) -> Choice:
        """The path for `generate(*args, **kwargs)`. `known`: where there is a runner, the look may follow."""
        with self.lock:
            if known and self.changed is None and self._fitting():
                choice = self._choose(args, kwargs, look=False)
                if choice.settings in self.runners:
                    return choice
            return self._choose(args, kwargs, look=True)

    def _choose(self, args: tuple[Any, ...], kwargs: dict[str, Any], look: bool) -> Choice:
        asked = read_call(args, kwargs)
        if isinstance(asked, str):
            return Choice(PathTaken("decoder", asked))
        reason = (self._look() if look else None) or why_no_runner(self.model, self.decoder, asked.features)
        if reason is not None:
            return Choice(PathTaken("decoder", reason))
        settings = self._settings(asked)
        reason = settings if isinstance(settings, str) else why_not_served(self.decoder, settings)
        if isinstance(settings, str) or reason is not None:
            return Choice(PathTaken("decoder", reason))
        return Choice(PathTaken("whole model", None), asked.features, settings, look)

    def runner(self, settings: DecodingSettings) -> Runner:
        """The fused engine for these settings; all of them share one copy of the weights."""
        if not self._fitting():  # autocast went on or off
            self.runners.clear()
        found = self.runners.get(settings)
        if found is None:
            found = make_runner(self.model, self.decoder, settings, list(self.runners.values()))
            self.runners[settings] = found
            if len(self.runners) > KEPT:
                self.runners.popitem(last=False)
        self.runners.move_to_end(settings)
        return found

    def _fitting(self) -> bool:
        """Whether there are runners, and they run in the type and on the device that the model now asks for."""
        wanted = runner_dtype(self.decoder), self.model.device
        return any((one.dtype, one.device) == wanted for one in self.runners.values())

    def _gave_up(self) -> bool:
        """Whether a runner's one launch has given up; the GPU then answers none of them."""
        return any(one.gave_up() for one in self.runners.values())

    def _look(self) -> str | None:
        """Look at the model: why the fused engine can't stand for it, or None. What its weights made is forgotten
        when they change."""
        now = [*replaced(self.model), *generating()]
        if self.watch.look(self.decoder.trained) or now != self.replaced:
            self._forget()
            self.decoder.forget()
            self.changed = _why_changed(self.model) or self.decoder.look()
            self.replaced = now
        return self.changed

    def _settle(self) -> None:
        """After a decode: forget the weights if the GPU has found meanwhile that they are not the model's."""
        if self.watch.differs():
            self._forget()
            self.decoder.forget()
        self.watch.rest()

    def _settings(self, asked: Asked) -> DecodingSettings | str:
        config = self.model.generation_config
        if not isinstance(config, GenerationConfig):
            return "the model has no generation config"
        forced = getattr(self.model.config, "forced_decoder_ids", None)
        # A tensor's repr leaves most of a long one out.
        entries = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in vars(config).items()}
        called = sorted(asked.settings.items()), sorted(asked.prompt.items()), asked.features.shape[2]
        key = repr(called), repr((entries, forced))
        if key not in self.known:
            self.known[key] = settings_of(self.model, asked)
            if len(self.known) > KNOWN:
                self.known.popitem(last=False)
        return self.known[key]


def replaced(model: torch.nn.Module) -> list[str]:
    """Methods of the model that something has replaced on the object itself."""
    return [name for name, value in vars(model).items() if callable(value) and hasattr(type(model), name)]


def _why_changed(model: WhisperForConditionalGeneration) -> str | None:
    """Why the model around the decoder is not a plain one, or None."""
    if plain_type(model) is not WhisperForConditionalGeneration:
        return f"the model is a {plain_type(model).__name__}"
    if not getattr(model.config, "return_dict", True):
        return "the configuration asks for tuples, of which generate makes an error"
    reason = why_patched(methods=True)
    if reason is not None:
        return reason
    inner, projection = model.model, model.proj_out
    for name, module in (("the model", model), ("its encoder", inner.encoder), ("proj_out", projection)):
        if module.training:
            return f"{name} is in training mode"
    for name, module in (("the model", model), ("model", inner), ("model.encoder", inner.encoder),
                         ("model.decoder", inner.decoder), ("proj_out", projection)):  # fmt: skip
        if hooked(module):
            return f"there is a hook on {name}"
        if replaced(module):
            return f"something replaced {replaced(module)[0]} of {name}"
    if type(projection) is not torch.nn.Linear or projection.bias is not None or not projection._parameters:
        return "proj_out is not a plain product"
    if projection.weight.dtype != model.dtype or projection.weight.device != model.device:
        return "proj_out is of another type or on another device"
    if projection.weight.shape != inner.decoder.embed_tokens.weight.shape:
        return "proj_out is of another shape than the embedding"
    if projection.weight.shape[0] != model.config.vocab_size:
        return f"it has {projection.weight.shape[0]} tokens and the configuration says {model.config.vocab_size}"
    return why_changed(inner.encoder)
