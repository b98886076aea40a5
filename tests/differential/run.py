"""Run a case with plain transformers and with ours, step by step, and say in what they differ.

Compared: tokens, scores within 1e-4, or the exception's type and first line; transformers' UserWarnings; and what a
call leaves in the model's generation config.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from unittest import mock

import torch
from documented_uses import WINDOWS, assert_same
from model_changes import CHANGES
from tiny_whisper import varied_whisper
from transformers import GenerationConfig, WhisperForConditionalGeneration

from tests.differential.cases import OURS, Call, Case, Change, Entries, Features
from tests.differential.engine import run_engine
from tests.differential.rounding import is_rounding
from tests.differential.values import ABSENT, MAKERS, Made
from whisper_speedup import last_path, optimize_model, restore_model
from whisper_speedup.optimize import patched
from whisper_speedup.optimize.public import whole_model

FALLBACK = "generate_with_fallback"  # transformers' method that decodes one window
DECODE = getattr(WhisperForConditionalGeneration, FALLBACK)
WATCHED: list[tuple[list[torch.Tensor], int]] = []


class EndlessError(Exception):
    """More windows than any of these recordings needs: transformers would go on for ever."""


@dataclass
class Result:
    """A case's verdict ("same", "rounding", "differs", "refused" by the engine) and why. `endless`: calls that were not
    compared, for transformers' own does not end."""

    verdict: str = "same"
    why: str = ""
    calls: int = 0
    raised: int = 0
    endless: int = 0
    paths: Counter[str] = field(default_factory=Counter)  # that calls of an optimised model took, and gave a result

    def differs(self, why: str) -> None:
        self.verdict, self.why = "differs", why


@dataclass
class Answer:
    """What a call came to. `prompts`: of each window that transformers decoded."""

    value: Any = None
    error: tuple[str, str] | None = None
    warned: set[str] = field(default_factory=set)
    prompts: list[torch.Tensor] = field(default_factory=list)

    @property
    def endless(self) -> bool:
        return self.error is not None and self.error[0] == EndlessError.__name__


def run_case(case: Case) -> Result:
    """Run all its steps, up to the first difference."""
    result = Result()
    threads, numbers = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        if case.optimised == "engine":
            run_engine(case, result)
        else:
            run_steps(case, result)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(numbers)
    return result


def run_steps(case: Case, result: Result) -> None:
    plain, ours = model_of(case), model_of(case)
    optimize_model(ours if case.optimised == "model" else ours.model.decoder)
    for number, step in enumerate(case.steps):
        before = result.verdict
        if isinstance(step, Entries):
            for model in (plain, ours):
                write(model.generation_config, step.entries)
        elif isinstance(step, Change):
            plain, ours = compare_change(plain, ours, step.name, result)
        else:
            compare_call(plain, ours, step, result)
        if result.verdict != before:
            result.why = f"step {number}, {result.why}"
        if result.verdict == "differs" or result.endless:
            return


def compare_change(plain: Any, ours: Any, name: str, result: Result) -> tuple[Any, Any]:
    """Both models after it."""
    if name in OURS:
        error = None
        try:
            (restore_model if name == OURS[2] else optimize_model)(ours.model.decoder if name == OURS[1] else ours)
        except Exception as raised:
            error = raised
        # It refuses a model that is not a plain one any more, and leaves it as it is.
        if error is not None and type(error).__name__ != "UserError":
            result.differs(f"{name}: {error!r}")
        return plain, ours
    models, errors = [], []
    for model in (plain, ours):
        torch.manual_seed(1)
        error = None
        try:
            changed = CHANGES[name](model)
        except Exception as raised:
            changed, error = None, named(raised)
        models.append(model if changed is None else changed)
        errors.append(error)
    if errors[0] != errors[1]:
        result.differs(f"{name}: {errors[1]} instead of {errors[0]}")
    return models[0], models[1]


def compare_call(plain: Any, ours: Any, call: Call, result: Result) -> None:
    result.calls += 1
    expected = answer(plain, call)
    result.raised += expected.error is not None
    if expected.endless:
        result.endless += 1
        return
    found = answer(ours, call, most=3 * WINDOWS)  # we ask transformers for the prompt, too
    taken = last_path(ours) if whole_model(ours) is not None and found.error is None else None
    if taken is not None:
        result.paths[taken.path] += 1
    why = difference(expected, found)
    if why.startswith("value") and rounding(plain, call, expected, found):
        result.verdict, result.why = "rounding", why
        why = ""
    left = [{name: repr(value) for name, value in vars(model.generation_config).items()} for model in (plain, ours)]
    if not why and left[0] != left[1]:
        why = f"entries left in the generation config: {sorted(set(left[1].items()) ^ set(left[0].items()))}"
    if why:
        result.differs(why)


def rounding(plain: Any, call: Call, expected: Answer, found: Answer) -> bool:
    """rounding.is_rounding for this call."""
    exact = replace(call, features=replace(call.features, dtype="float64"), context="no_grad")
    features = features_of(call.features)
    return is_rounding(plain, features, expected, found, lambda teacher: answer(teacher, exact))


def difference(expected: Answer, found: Answer) -> str:
    """In what one answer differs from the other, or ""."""
    if expected.error != found.error:
        return f"{shown(found)} instead of {shown(expected)}"
    if expected.warned != found.warned:
        return f"warns {found.warned or None} instead of {expected.warned or None}"
    try:
        assert_same(expected.value, found.value)
    except AssertionError as error:
        return f"value {' '.join(str(error).split())[:400]}"
    return ""


def shown(one: Answer) -> str:
    if one.error is not None:
        return ": ".join(one.error)
    return str(one.value.tolist() if isinstance(one.value, torch.Tensor) else one.value)[:300]


def named(error: Exception) -> tuple[str, str]:
    return type(error).__name__, (str(error).splitlines() or [""])[0]


def answer(model: WhisperForConditionalGeneration, call: Call, most: int = WINDOWS) -> Answer:
    """What `model.generate` does for this call, of which transformers may decode so many windows."""
    found = Answer()
    with warnings.catch_warnings(record=True) as warned, watched(found.prompts, most), context(call.context):
        warnings.simplefilter("always")
        try:
            features = features_of(call.features)
            arguments = {name: made(value, model, features) for name, value in call.arguments.items()}
            if call.passed is not None:
                config = GenerationConfig() if call.bare else copy.deepcopy(model.generation_config)
                write(config, call.passed)
                arguments["generation_config"] = config
            given: tuple[torch.Tensor, ...] = (features,)
            if arguments.get("encoder_outputs") is not None:
                given = ()
            elif call.by_name:
                given, arguments["input_features"] = (), features
            torch.manual_seed(call.seed)
            found.value = model.generate(*given, **arguments)
        except Exception as error:
            found.error = named(error)
    texts = {" ".join(str(one.message).split()) for one in warned if one.category is UserWarning}
    found.warned = {text for text in texts if not text.startswith("whisper_speedup:")}
    return found


@contextmanager
def watched(prompts: list[torch.Tensor], most: int) -> Iterator[None]:
    """Keep each window's prompt, and end what does not end. Ours is to take the wrapper for transformers' own: it would
    leave every call to transformers."""
    WATCHED.append((prompts, most))
    known = mock.patch.dict(patched.AT_IMPORT, {f"{FALLBACK} of every Whisper": counted})
    with mock.patch.object(WhisperForConditionalGeneration, FALLBACK, counted), known:
        try:
            yield
        finally:
            WATCHED.pop()


def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
    """One function for all calls, so that a later call does not seem to be another model's."""
    prompts, most = WATCHED[-1]
    prompts.append(kwargs["decoder_input_ids"])
    if len(prompts) > most:
        raise EndlessError
    return DECODE(self, *args, **kwargs)


@contextmanager
def context(name: str) -> Iterator[None]:
    """One of values.CONTEXTS."""
    with ExitStack() as stack:
        kind, _, dtype = name.partition(" ")
        if kind == "default":
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(getattr(torch, dtype))
        elif kind == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=getattr(torch, dtype)))
        elif kind == "deterministic":
            stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
            torch.use_deterministic_algorithms(True)
        elif kind != "nothing":
            stack.enter_context(getattr(torch, kind)())
        yield


def write(config: GenerationConfig, entries: dict[str, Any]) -> None:
    """Write entries into a generation config; ABSENT takes one out."""
    for name, value in entries.items():
        if value == ABSENT:
            vars(config).pop(name, None)
        else:
            setattr(config, name, copy.deepcopy(value))


def made(value: Any, model: Any, features: torch.Tensor) -> Any:
    """An argument as `generate` takes it, not shared with another call."""
    return MAKERS[value.name](model, features) if isinstance(value, Made) else copy.deepcopy(value)


def features_of(given: Features) -> torch.Tensor:
    """The features that a record stands for."""
    shape, numbers = (given.count, given.bands, given.frames), torch.Generator().manual_seed(given.seed)
    return torch.randn(shape, generator=numbers, dtype=torch.float32).to(getattr(torch, given.dtype))


def model_of(case: Case) -> WhisperForConditionalGeneration:
    """The case's model, plain."""
    return copy.deepcopy(model_like(tuple(sorted(case.shape.items())), case.ending))


@cache
def model_like(shape: tuple[tuple[str, int], ...], ending: float) -> WhisperForConditionalGeneration:
    """`ending` is added to end-of-text's logit through the last norm's bias, so that hypotheses end at odd lengths."""
    model = varied_whisper(**dict(shape))
    with torch.no_grad():
        towards = model.proj_out.weight[1]
        model.model.decoder.layer_norm.bias += ending * towards / towards.square().sum()
    return model
