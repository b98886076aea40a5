"""Engine `fused` against plain transformers with the arguments that the benchmark passes to it."""

import copy
from typing import Any

import torch

from tests.differential.cases import Call, Case, Entries
from tests.differential.rounding import sequences_of
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.huggingface import generate_arguments
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams


def run_engine(case: Case, result: Any) -> None:
    """The engine may refuse what it does not serve, in its own words too what transformers refuses. What it answers is
    what transformers answers, and its recorded prompt the real one."""
    from tests.differential import run

    plain = run.model_of(case)
    for step in case.steps:
        if isinstance(step, Entries):
            run.write(plain.generation_config, step.entries)
    calls = [step for step in case.steps if isinstance(step, Call)]
    generation = GenerationParams(**calls[0].arguments)
    engine = Fused(FusedParams(precision="float32", tune="never"))
    try:
        engine.use(copy.deepcopy(plain), generation, torch.device("cpu"))
    except UserError as error:
        result.verdict, result.why = "refused", str(error)
        return
    except Exception as error:  # a person would see a traceback
        result.differs(f"loading: {error!r}")
        return
    arguments = generate_arguments(generation, plain.generation_config)
    for call in calls:
        result.calls += 1
        asked = Call(call.features, arguments, context="no_grad")
        expected = run.answer(plain, asked)
        result.raised += expected.error is not None
        if expected.endless:
            result.endless += 1
            continue
        found = run.Answer()
        try:
            tokens = engine.generate(run.features_of(call.features)).tokens
            found.value = torch.tensor([tokens], dtype=torch.int64)
        except Exception as error:
            found.error = run.named(error)
        if found.error is not None and expected.error is not None:
            continue
        found.warned = expected.warned  # an engine has its own
        expected.value = sequences_of(expected.value)
        why = run.difference(expected, found)
        if why.startswith("value") and run.rounding(plain, asked, expected, found):
            result.verdict, result.why, why = "rounding", why, ""
        if not why and expected.error is None:
            why = prompts_differ(engine.prompt, expected.prompts[0][0].tolist())
        if why:
            result.differs(why)
            return


def prompts_differ(recorded: list[int | None], real: list[int]) -> str:
    """None in the recorded one stands for whatever language is detected."""
    same = len(recorded) == len(real) and all(one in (None, other) for one, other in zip(recorded, real, strict=True))
    return "" if same else f"prompt {recorded} instead of {real}"
