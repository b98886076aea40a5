"""Random uses of a small Whisper: each a record that one integer decides, and that holds all there is to it."""

import random
from dataclasses import dataclass, replace
from typing import Any

from model_changes import CHANGES

from tests.differential.values import ABSENT, ARGUMENTS, CONTEXTS, ENTRIES, LANGUAGES, PROMPT, TASKS

# Seeds that end in the same digit are of the same kind.
KINDS = (
    "entries", "changes", "arguments", "entries", "engine", "changes", "contexts", "entries", "arguments", "changes",
)  # fmt: skip
OURS = ("optimize_model(model)", "optimize_model(model.model.decoder)", "restore_model(model)")
SELDOM = {"compiled_encoder"}  # takes a second


@dataclass(frozen=True)
class Features:
    """Log-mel features (count, bands, frames), by the seed of their random numbers."""

    seed: int
    count: int = 1
    bands: int = 8
    frames: int = 40
    dtype: str = "float32"


@dataclass(frozen=True)
class Call:
    """One `generate`. `passed`: entries of a GenerationConfig that is handed over, a copy of the model's or, where
    `bare`, a fresh one. `seed`: of the random numbers that sampling draws. `by_name`: how the features are given."""

    features: Features
    arguments: dict[str, Any]
    passed: dict[str, Any] | None = None
    bare: bool = False
    context: str = "nothing"
    seed: int = 0
    by_name: bool = False


@dataclass(frozen=True)
class Entries:
    """Written into model.generation_config."""

    entries: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """By its name in tests/model_changes.py, or one of OURS, which only the optimised model gets."""

    name: str


@dataclass(frozen=True)
class Case:
    """`optimised`: "model", "decoder", or "engine" for engine `fused`, for which the calls' arguments are fields of
    GenerationParams. `shape`: arguments of varied_whisper. `ending`: how much the weights like end-of-text."""

    seed: int
    kind: str
    optimised: str
    shape: dict[str, Any]
    ending: float
    steps: tuple[Entries | Change | Call, ...]


def case_of(seed: int) -> Case:
    """The case that belongs to a seed."""
    chance = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    shape = {
        "seed": chance.randrange(1000),
        "layers": chance.choice([1, 2, 2, 3]),
        "heads": chance.choice([1, 2, 4, 4]),
    }
    if chance.random() < 0.2:
        shape |= {"vocabulary": chance.choice([98, 120]), "width": chance.choice([16, 64])}
    optimised = "engine" if kind == "engine" else chance.choice(["model", "model", "decoder"])
    ending = chance.choice([0.0, 1.0, 2.0, 3.0])
    return Case(seed, kind, optimised, shape, ending, tuple(STEPS[kind](chance)))


def some(chance: random.Random, values: dict[str, list[Any]], least: int, most: int) -> dict[str, Any]:
    """As many of these, each with one of its values. The first ones come oftener: most of the others are refused."""
    names = sorted(chance.sample(sorted(values), chance.randint(least, most)))
    return {name: values[name][int(len(values[name]) * chance.random() ** 1.5)] for name in names}


def entries(chance: random.Random) -> dict[str, Any]:
    """Those that decide the prompt come together; most others would end the call before they matter."""
    found = some(chance, PROMPT, 1, 5) if chance.random() < 0.6 else {}
    return {**found, **some(chance, ENTRIES, 0 if found else 1, chance.choice([1, 1, 2, 3]))}


def asked(chance: random.Random) -> dict[str, Any]:
    """Language, task and beams, most of them right."""
    found: dict[str, Any] = {}
    if chance.random() < 0.7:
        found["language"] = chance.choice(LANGUAGES) if chance.random() < 0.5 else chance.choice(["en", "fr", "de"])
    if chance.random() < 0.4:
        found["task"] = chance.choice(TASKS)
    if chance.random() < 0.6:
        found["num_beams"] = chance.randint(1, 5)
    return found


def features(chance: random.Random, odd: float = 0.0) -> Features:
    """A whole window of one recording, or with probability `odd` something else."""
    found = Features(chance.randrange(1000))
    if chance.random() < odd:
        found = replace(found, count=chance.randint(1, 3))
    if chance.random() < odd / 2:
        found = replace(found, frames=chance.choice([1, 7, 20, 39, 41, 80, 100]))
    if chance.random() < odd / 8:
        found = replace(found, bands=chance.choice([7, 80]))
    if chance.random() < odd / 8:
        found = replace(found, dtype=chance.choice(["float16", "float64", "bfloat16"]))
    return found


def call(chance: random.Random, most: int = 0, odd: float = 0.05) -> Call:
    """A call with at most so many arguments besides language, task and beams."""
    arguments = {**asked(chance), **some(chance, ARGUMENTS, 0, most)}
    return Call(features(chance, odd), arguments, seed=chance.randrange(1000), by_name=chance.random() < 0.2)


def with_entries(chance: random.Random) -> list[Any]:
    """Entries in the model's config, in the call or in a config passed to it; some after a first call."""
    steps: list[Any] = [call(chance)] if chance.random() < 0.3 else []
    for _ in range(chance.randint(1, 2)):
        given, where = entries(chance), chance.choice(["config", "config", "config", "call", "passed"])
        one = call(chance, most=1)
        if where == "config":
            steps.append(Entries(given))
        elif where == "call":
            one = replace(one, arguments={**one.arguments, **present(given)})
        else:
            one = replace(one, passed=given, bare=chance.random() < 0.3)
        steps += [one] * chance.choice([1, 1, 2])
    return steps


def present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not ABSENT}


def with_arguments(chance: random.Random) -> list[Any]:
    """Calls of all kinds on one model."""
    steps: list[Any] = [Entries(entries(chance))] if chance.random() < 0.2 else []
    for _ in range(chance.randint(1, 3)):
        one = call(chance, most=chance.choice([1, 2, 4]), odd=0.2)
        scores = {"return_dict_in_generate": True, "output_scores": True} if chance.random() < 0.3 else {}
        steps.append(replace(one, arguments={**scores, **one.arguments}))
    return steps


def with_changes(chance: random.Random) -> list[Any]:
    """The same call before and after, mostly, so that whatever was kept for it would be used again."""
    one = replace(call(chance, odd=0.0), arguments={"language": "en", "num_beams": chance.randint(1, 4)})
    if chance.random() < 0.3:
        one = call(chance)
    steps: list[Any] = [one] if chance.random() < 0.9 else []
    for _ in range(chance.randint(1, 3)):
        steps += [change(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        steps.append(one if chance.random() < 0.8 else call(chance, most=1))
    return steps


def change(chance: random.Random) -> Change:
    """One of ours now and then."""
    if chance.random() < 0.12:
        return Change(chance.choice(OURS))
    names = sorted(set(CHANGES) - (SELDOM if chance.random() < 0.8 else set()))
    return Change(chance.choice(names))


def with_contexts(chance: random.Random) -> list[Any]:
    """A call in several contexts, one after another."""
    one = call(chance, most=1)
    steps: list[Any] = []
    for _ in range(chance.randint(2, 4)):
        other = one if chance.random() < 0.7 else call(chance, most=2, odd=0.2)
        steps.append(replace(other, context=chance.choice(CONTEXTS)))
        if chance.random() < 0.2:
            steps.append(change(chance))
    return steps


def with_the_engine(chance: random.Random) -> list[Any]:
    """Settings that a profile can express; the config is read once, before two recordings."""
    generation = {
        "num_beams": chance.randint(1, 5), "max_length": chance.choice([1, 2, 6, 12, 14, 20, 70]),
        "min_length": chance.choice([0, 0, 1, 5, 12, 30]), "length_penalty": chance.choice([1.0, 0.0, -1.5, 0.4, 3.0]),
        "early_stopping": chance.choice([False, True, "never"]), "language": chance.choice([None, "en", "fr", "de"]),
        "task": chance.choice([None, "transcribe", "translate"]),
    }  # fmt: skip
    calls = [Call(features(chance), generation) for _ in range(2)]
    return [Entries(entries(chance)), *calls] if chance.random() < 0.85 else calls


STEPS = {
    "entries": with_entries, "arguments": with_arguments, "changes": with_changes, "contexts": with_contexts,
    "engine": with_the_engine,
}  # fmt: skip
