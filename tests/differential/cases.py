"""Random calls of `generate`: a small model, its generation config, the arguments, and what happens between two calls.

A case is drawn from one number and says itself as a line of Python.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch

VOCABULARY, EOS = 97, 1
KINDS = ("prompt", "lists", "lengths", "arguments", "changes")
LANGUAGES = {"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}
ABSENT = "absent"  # an entry that the generation config does not have
NAMES = {"en", "fr", "de", "<|fr|>", "French", "english", "xx", "klingon", "it"}


@dataclass(frozen=True)
class Case:
    """`entries` of the generation config before the first call, and `later` ones before the second; `arguments` of
    `generate`, through `via`: its keywords, or a GenerationConfig that is passed along. `change`: of the model between
    the calls. `context`: what holds around them. `target`: what is optimised, or engine fused."""

    seed: int
    kind: str
    target: str
    model: int
    entries: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    via: str = "keywords"
    change: str | None = None
    context: str = "none"
    utterances: int = 1
    frames: int = 40


def draw(seed: int, changes: list[str]) -> Case:
    """The case of a number. `changes`: names of what can happen to a model."""
    chance = Random(seed)
    kind = KINDS[seed % len(KINDS)]
    target = chance.choice(["model", "model", "model", "decoder"])
    case: dict[str, Any] = {"seed": seed, "kind": kind, "target": target, "model": chance.randrange(8)}
    arguments: dict[str, Any] = {"max_new_tokens": chance.randint(1, 10), "num_beams": chance.choice([1, 1, 2, 3, 5])}
    if kind == "prompt":
        case["entries"], asked = prompt(chance)
        arguments |= asked
        case["frames"] = chance.choice([40, 40, 40, 39, 7])
    else:
        arguments |= chance.choice(
            [{"language": "en"}, {"language": "fr", "task": "translate"}, {}, {"task": "transcribe"}]
        )
    if kind == "lists":
        case["entries"] = lists(chance)
        case["later"] = lists(chance) if chance.random() < 0.5 else {}
    if kind == "lengths":
        arguments = {key: value for key, value in arguments.items() if key != "max_new_tokens"} | lengths(chance)
        case["entries"] = entries_of_lengths(chance)
        case["via"] = chance.choice(["keywords", "keywords", "passed"])
    if kind == "arguments":
        arguments |= uncommon(chance)
        case["utterances"] = chance.choice([1, 1, 2, 3])
        case["frames"] = chance.choice([40, 40, 30, 41])
        case["context"] = chance.choice(
            ["none", "none", "inference_mode", "enable_grad", "float16 default", "autocast"]
        )
    if kind == "changes":
        case["change"] = chance.choice(changes)
    if (
        kind in ("prompt", "lists")
        and chance.random() < 0.15
        and case["frames" if kind == "prompt" else "model"] is not None
    ):
        case["target"] = "engine"
    return Case(**case, arguments=arguments)


def prompt(chance: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """What transformers makes a prompt of: entries and arguments."""
    entries: dict[str, Any] = {
        "forced_decoder_ids": chance.choice(
            [
                None, None, [(1, 21), (2, 30), (3, 75)], [(1, None), (2, 31)], [(1, 22)], [(2, 30)], [[1, 20], [2, 31]],
                [(1, 20), (3, 30)],
            ]
        ),
        "lang_to_id": chance.choice([LANGUAGES, LANGUAGES, {}, ABSENT]),
        "is_multilingual": chance.choice([True, True, False, ABSENT]),
        "no_timestamps_token_id": chance.choice([75, 75, ABSENT]),
        "task_to_id": chance.choice([{"transcribe": 30, "translate": 31}] * 3 + [ABSENT]),
    }  # fmt: skip
    asked: dict[str, Any] = {}
    for where in (entries, asked):
        if chance.random() < 0.4:
            where["language"] = chance.choice(sorted(NAMES))
        if chance.random() < 0.4:
            where["task"] = chance.choice(["transcribe", "translate", "translate", "sing"])
    return entries, asked


def lists(chance: Random) -> dict[str, Any]:
    """Lists of tokens, as people and old checkpoints hold them."""

    def ids() -> Any:
        some = [chance.choice([-1, -97, 0, 96, 97, 5000, *range(40, 60)]) for _ in range(chance.randint(0, 30))]
        return chance.choice([some, tuple(some), torch.tensor(some, dtype=torch.int64), None, [], some + some])

    eos = chance.choice([EOS, EOS, EOS, None, [EOS], [EOS, 44], torch.tensor(EOS), torch.tensor([EOS]), -1, 5000, 40])
    return {
        "suppress_tokens": ids(), "begin_suppress_tokens": ids(), "eos_token_id": eos,
        "pad_token_id": chance.choice([EOS, EOS, eos, None, 0]),
    }  # fmt: skip


def lengths(chance: Random) -> dict[str, Any]:
    """Limits of a call, those that cannot be among them."""
    choices: dict[str, list[Any]] = {
        "max_length": [1, 3, 8, 14, 70, 0], "max_new_tokens": [1, 5, 12, 60, 64], "min_length": [0, 3, 9, 30, -1],
        "min_new_tokens": [0, 2, 6, 20], "length_penalty": [None, 0, -1.0, 0.5, 2, 1.0],
        "early_stopping": [True, False, "never", None],
    }  # fmt: skip
    chosen = chance.sample(sorted(choices), chance.randint(1, 3))
    return {name: chance.choice(choices[name]) for name in chosen}


def entries_of_lengths(chance: Random) -> dict[str, Any]:
    """The same as entries; every other model has the notebook's."""
    if chance.random() < 0.5:
        return {}
    choices: dict[str, list[Any]] = {
        "max_length": [5, 14, 30, None], "length_penalty": [None, 0.7], "early_stopping": [True, None],
        "num_beams": [2, 4], "min_length": [4], "do_sample": [False, None], "temperature": [1.0, None],
    }  # fmt: skip
    return {name: chance.choice(choices[name]) for name in chance.sample(sorted(choices), chance.randint(1, 2))}


def uncommon(chance: Random) -> dict[str, Any]:
    """Arguments that few calls have."""
    choices: list[dict[str, Any]] = [
        {"return_dict_in_generate": True, "output_scores": True}, {"return_dict_in_generate": True},
        {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}, {"temperature": 0.7},
        {"do_sample": True, "top_k": 5}, {"prompt_ids": torch.tensor([72, 44, 45])},
        {"num_return_sequences": 2, "num_beams": 3}, {"use_cache": False}, {"return_segments": True},
        {"attention_mask": "ones"}, {"attention_mask": "short"}, {"return_timestamps": False},
        {"suppress_tokens": [5, 50, 51]}, {"renormalize_logits": True}, {"bad_words_ids": [[44], [45, 46]]},
        {"sequence_bias": {(47,): 2.0}}, {"forced_eos_token_id": EOS}, {"output_attentions": True},
        {"condition_on_prev_tokens": False}, {"language": ["en"]}, {"unknown": 3}, {"num_beams": 0},
        {"num_beams": 2.0}, {}, {"encoder_outputs": "given"}, {"decoder_input_ids": torch.tensor([[2, 21, 30, 75]])},
        {"top_p": 0.9}, {"guidance_scale": 1.5}, {"exponential_decay_length_penalty": (2, 1.5)}, {"typical_p": 0.8},
        {"is_multilingual": False}, {"eos_token_id": 44},
    ]  # fmt: skip
    found: dict[str, Any] = {}
    for one in chance.sample(choices, chance.choice([1, 1, 2])):
        found |= one
    return found
