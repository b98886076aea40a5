"""Run a case twice, optimised and as plain transformers runs it, and say whether they differ.

python -m tests.differential.run --seed 17
python -m tests.differential.run --cases 3000
"""

import argparse
import copy
import logging
import sys
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from tiny_whisper import varied_whisper
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from tests.differential.cases import ABSENT, Case, draw
from tests.differential.changes import CHANGES
from whisper_speedup import last_path, optimize_model
from whisper_speedup.engine_params import FusedParams
from whisper_speedup.engines.fused import Fused
from whisper_speedup.errors import UserError
from whisper_speedup.params import GenerationParams

CLOSE = 1e-4  # of scores, and of a token's share of them in a tie
Model = WhisperForConditionalGeneration


@dataclass(frozen=True)
class Outcome:
    """`what`: same, rounding or differs; of an engine also refused. `path`: the optimised call's last."""

    what: str
    path: str
    detail: str = ""


def run(case: Case) -> Outcome:
    """Both ways, both calls."""
    logging.disable(logging.WARNING)
    if case.target == "engine":
        return run_engine(case)
    plain, ours = made(case), made(case)
    optimize_model(ours if case.target == "model" else ours.model.decoder)
    path = ""
    for call, entries in enumerate((case.entries, case.later)):
        answers = []
        for name, model in (("plain", plain), ("ours", ours)):
            if call and case.change is not None:
                torch.manual_seed(case.seed)
                model = CHANGES[case.change](model)
                plain, ours = (model, ours) if name == "plain" else (plain, model)
            put(model.generation_config, entries)
            answers.append(answer(model, case, call))
        taken = last_path(ours) if type(ours).__name__ == "WhisperForConditionalGeneration" else None
        path = taken.path if taken is not None else "none"
        detail = differing(*answers)
        if detail:
            tie = case.change is None and rounding(plain, case, call, *answers)
            return Outcome("rounding" if tie else "differs", path, f"call {call}: {detail}")
    return Outcome("same", path)


def made(case: Case) -> Model:
    """The case's model, its generation config as it is before the first call."""
    model = varied_whisper(case.model)
    put(model.generation_config, case.entries)
    return model


def put(config: GenerationConfig, entries: dict[str, Any]) -> None:
    """Set entries, or take them out."""
    for name, value in entries.items():
        if isinstance(value, str) and value == ABSENT:
            vars(config).pop(name, None)
        else:
            setattr(config, name, copy.deepcopy(value))


def answer(model: Any, case: Case, call: int) -> tuple[Any, list[str]]:
    """What `generate` gives or raises, and the user warnings of it."""
    arguments = copy.deepcopy(case.arguments)
    noise = torch.Generator().manual_seed(case.seed + call)
    features: Any = torch.randn(case.utterances, 8, case.frames, generator=noise, dtype=torch.float32)
    dtype = next(model.parameters()).dtype
    features = features.to(dtype)
    if "attention_mask" in arguments:
        short = arguments["attention_mask"] == "short"
        arguments["attention_mask"] = torch.ones(case.utterances, case.frames, dtype=torch.int64)
        arguments["attention_mask"][:, -9:] = 0 if short else 1
    if "encoder_outputs" in arguments:
        states = torch.randn(case.utterances, 20, 32, generator=noise, dtype=torch.float32).to(dtype)
        arguments["encoder_outputs"], features = BaseModelOutput(last_hidden_state=states), None
    if case.via == "passed":
        config = copy.deepcopy(model.generation_config)
        put(config, arguments)
        arguments = {"generation_config": config}
    torch.manual_seed(case.seed)
    with ExitStack() as stack:
        told = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        inside(case.context, stack)
        try:
            found: Any = model.generate(features, **arguments)
        except Exception as error:  # whatever it is, both must raise it
            found = (type(error).__name__, str(error).split("\n")[0])
    own = [str(one.message) for one in told if one.category is UserWarning]
    return found, sorted({one for one in own if not one.startswith("whisper_speedup")})


def inside(context: str, stack: ExitStack) -> None:
    """Enter what holds around the calls."""
    if context == "inference_mode":
        stack.enter_context(torch.inference_mode())
    elif context == "enable_grad":
        stack.enter_context(torch.enable_grad())
    elif context == "autocast":
        stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
    elif context == "float16 default":
        torch.set_default_dtype(torch.float16)
        stack.callback(torch.set_default_dtype, torch.float32)


def differing(plain: tuple[Any, list[str]], ours: tuple[Any, list[str]]) -> str:
    """What differs between two answers, or nothing."""
    if plain[1] != ours[1]:
        return f"warnings {plain[1]} and {ours[1]}"
    return unlike(plain[0], ours[0])


def unlike(one: Any, other: Any) -> str:
    """The first place where two results differ: tokens exactly, other numbers within CLOSE."""
    if type(one) is not type(other):
        return f"{str(one)[:200]} and {str(other)[:200]}"
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{one.tolist()} and {other.tolist()}"
        same = torch.allclose(one, other, CLOSE, CLOSE) if one.is_floating_point() else torch.equal(one, other)
        return "" if same else f"{one.tolist()} and {other.tolist()}"[:300]
    if isinstance(one, ModelOutput | dict):
        if list(one) != list(other):
            return f"keys {list(one)} and {list(other)}"
        return next((found for key in one if key != "past_key_values" and (found := unlike(one[key], other[key]))), "")
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return f"{one} and {other}"[:300] if len(one) != len(other) else next(
            (found for pair in pairs if (found := unlike(*pair))), "")  # fmt: skip
    if isinstance(one, float | int | str | bool | None):
        return "" if one == other else f"{one!r} and {other!r}"
    return ""


def rounding(plain: Model, case: Case, call: int, *answers: tuple[Any, list[str]]) -> bool:
    """Whether plain transformers in fp64 says what ours said: then fp32's rounding decided between the two."""
    exact = copy.deepcopy(plain).double()
    return not unlike(tokens(answers[1][0]), tokens(answer(exact, case, call)[0]))


def tokens(found: Any) -> Any:
    """The tokens of a result."""
    return found["sequences"] if isinstance(found, ModelOutput) else found


def run_engine(case: Case) -> Outcome:
    """Engine fused against plain transformers with the same arguments; it may refuse with one sentence."""
    plain = made(case)
    generation = GenerationParams(
        num_beams=case.arguments["num_beams"], max_length=12, min_length=1, length_penalty=1.0, early_stopping=False,
        language=None, task=case.arguments.get("task") if case.arguments.get("task") != "sing" else None,
    )  # fmt: skip
    from whisper_speedup.engines.huggingface import generate_arguments

    arguments = generate_arguments(generation, plain.generation_config)
    features = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(case.seed))
    engine = Fused(FusedParams(precision="auto", tune="never", layers="auto"))
    try:
        engine.use(made(case), generation, torch.device("cpu"))
        found = engine.generate(features).tokens
    except UserError as refused:
        return Outcome("same", "refused", str(refused))
    try:
        expected = plain.generate(features, **arguments)[0].tolist()
    except Exception as error:
        return Outcome("differs", "engine", f"{error!r} and {found}")
    return Outcome("same" if found == expected else "differs", "engine", f"{expected} and {found}")


def main() -> None:
    """Run one seed or many; exit code 1 when one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=3000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = (
        [arguments.seed] if arguments.seed is not None else range(arguments.first, arguments.first + arguments.cases)
    )
    counts, paths = Counter[str](), Counter[str]()
    for seed in seeds:
        case = draw(seed, sorted(CHANGES))
        outcome = run(case)
        counts[outcome.what] += 1
        paths[outcome.path] += 1
        if outcome.what != "same" or arguments.seed is not None:
            print(f"{outcome.what}: {outcome.detail}\n    {case}", flush=True)
    print(f"{counts.total()} cases, {counts['differs']} differ, {counts['rounding']} rounding; paths {dict(paths)}")
    sys.exit(1 if counts["differs"] else 0)


if __name__ == "__main__":
    main()
