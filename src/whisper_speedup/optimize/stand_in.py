"""The class that `optimize_model` gives an object in the place of its own: one method more, everything else as it was.

A method put on the object itself would belong to whatever shares the object's attributes: a shallow copy, a replica
that DataParallel makes. A class's method is called with the object at hand, so it can tell that this is not the one
that was optimised, and be transformers' own then. The class carries the name of the one it stands for: transformers
and PyTorch look objects up by it, and `save_pretrained` writes it into the configuration.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoder

STATE = "_whisper_speedup"


class StandIn:
    """A class that stands for another; `stands_for` is that one. A copy or a pickle rebuilds it from that one."""

    stands_for: type

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[0], self.stands_for), vars(self)


class StandInDecoder(StandIn):
    """A WhisperDecoder that is optimised."""

    @functools.wraps(WhisperDecoder.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        path = state_of(self)
        return (plain_forward(self) if path is None else path.forward)(*args, **kwargs)


class StandInModel(StandIn):
    """A WhisperForConditionalGeneration that is optimised."""

    @functools.wraps(WhisperForConditionalGeneration.generate)
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        whole = state_of(self)
        return (plain_generate(self) if whole is None else whole.generate)(*args, **kwargs)


def plain_forward(decoder: Any) -> Callable[..., Any]:
    """transformers' forward of a decoder, optimised or not."""
    forward: Callable[..., Any] = plain_type(decoder).forward.__get__(decoder)  # type: ignore[attr-defined]
    return forward


def plain_generate(model: Any) -> Callable[..., Any]:
    """transformers' generate of a model, optimised or not."""
    generate: Callable[..., Any] = plain_type(model).generate.__get__(model)  # type: ignore[attr-defined]
    return generate


def put_in(module: torch.nn.Module, mixin: type, state: Any) -> None:
    """Give `module` the class `mixin`, a StandIn, over its own. `state.module` is the module that the state serves."""
    vars(module)[STATE] = state
    module.__class__ = _class(mixin, plain_type(module))  # type: ignore[arg-type]


def take_out(module: torch.nn.Module) -> None:
    """Undo `put_in`."""
    vars(module).pop(STATE, None)
    if isinstance(module, StandIn):
        module.__class__ = type(module).stands_for


def state_of(module: Any) -> Any:
    """What `put_in` put into this very object, or None: a shallow copy carries the state of another."""
    state = vars(module).get(STATE)
    return state if state is not None and state.module is module else None


def plain_type(module: object) -> type:
    """The type of an object, or what that stands for."""
    return getattr(type(module), "stands_for", type(module))


@functools.cache
def _class(mixin: type, base: type) -> type:
    named = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(base.__name__, (mixin, base), {**named, "stands_for": base})


def _blank(mixin: type, base: type) -> Any:
    return object.__new__(_class(mixin, base))
