"""What a call of `generate` asks for, and whether the fused engine does exactly that.

Everything is allowed by name: an argument or a setting that is not known here, or not at its neutral value, sends the
call to transformers' own loop. What is in force is worked out by transformers itself.
"""

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration

from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.errors import UserError
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings, token_ids

SIGNATURE = inspect.signature(WhisperForConditionalGeneration.generate)
# Arguments of Whisper's `generate` that we read. Of a short recording, transformers uses no attention mask.
ARGUMENTS = {"self", "input_features", "attention_mask", "language", "task"}
# Values of others that mean what their default, None, means.
LIKE_NONE = {
    "return_timestamps": False, "return_token_timestamps": False, "return_dict_in_generate": False,
    "force_unique_generate_call": False, "condition_on_prev_tokens": False, "temperature": 0.0,
}  # fmt: skip
LISTS = {"logits_processor", "stopping_criteria"}  # an empty one is none
SETTINGS = {
    "max_length", "max_new_tokens", "min_length", "num_beams", "length_penalty", "early_stopping", "do_sample",
    "use_cache",
}  # fmt: skip
# Entries of a generation config that we read, ...
READ = {
    "max_length", "max_new_tokens", "min_length", "num_beams", "length_penalty", "early_stopping", "eos_token_id",
    "pad_token_id", "suppress_tokens", "begin_suppress_tokens", "no_timestamps_token_id", "lang_to_id",
}  # fmt: skip
# ... that transformers reads when we ask it for the prompt, ...
PROMPT = {"decoder_start_token_id", "forced_decoder_ids", "is_multilingual", "language", "task", "task_to_id"}
# ... and that change nothing without sampling, timestamps, an assistant model or a prompt of the user's.
IDLE = {
    "bos_token_id", "temperature", "top_k", "top_p", "typical_p", "min_p", "epsilon_cutoff", "eta_cutoff",
    "alignment_heads", "max_initial_timestamp_index", "prev_sot_token_id", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
    "transformers_version", "use_cache",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A call that may be served: its features, and the arguments for the prompt and for the search, by name."""

    features: torch.Tensor
    prompt: dict[str, Any]
    settings: dict[str, Any]


def read_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked | str:
    """The call `generate(*args, **kwargs)` in our terms, or why it is not one of ours. Looks at no configuration."""
    try:
        given = SIGNATURE.bind(None, *args, **kwargs).arguments
    except TypeError as error:
        return f"transformers will refuse the arguments ({error})"
    others = given.pop("kwargs", {})
    for name, value in given.items():
        if name not in ARGUMENTS and not _like_default(name, value):
            return f"{name} is given"
    for name, value in others.items():
        if name not in SETTINGS:
            return f"{name} is given"
        if not isinstance(value, int | float | str | None):
            return f"{name} is a {type(value).__name__}"
    if others.get("do_sample"):
        return "do_sample is set"
    if not others.get("use_cache", True):
        return "use_cache is off"
    features = given.get("input_features")
    if not isinstance(features, torch.Tensor) or features.dim() != 3:
        return "there are no input_features"
    if features.shape[0] != 1:
        return f"there are {features.shape[0]} utterances"
    prompt = {name: given[name] for name in ("language", "task") if given.get(name) is not None}
    if not all(isinstance(value, str) for value in prompt.values()):
        return "languages come as a list"
    return Asked(features, prompt, others)


def settings_of(model: WhisperForConditionalGeneration, asked: Asked) -> DecodingSettings | str:
    """The settings in force for a call that read_call let through, or why the fused engine does not serve them: for
    one, because transformers warns of them, which it shall do at each call."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        settings = _settings_of(model, asked)
    warned = [one for one in told if one.category is UserWarning]
    return f"transformers warns: {' '.join(str(warned[0].message).split())}" if warned else settings


def _settings_of(model: WhisperForConditionalGeneration, asked: Asked) -> DecodingSettings | str:
    try:
        config, unused = model._prepare_generation_config(None, **asked.settings)
        if unused:
            return f"{sorted(unused)[0]} is set"
        unknown = _unserved_entry(config)
        if unknown is not None:
            return f"the generation config sets {unknown}"
        arguments = {
            name: getattr(config, name)
            for name in ("num_beams", "max_length", "max_new_tokens", "min_length", "length_penalty", "early_stopping")
        }
        for name, least in (("num_beams", 1), ("max_length", 1), ("min_length", 0)):
            if type(arguments[name]) is not int or arguments[name] < least:
                return f"{name} is {arguments[name]}"
        if type(arguments["length_penalty"]) not in (int, float):
            return f"length_penalty is {arguments['length_penalty']}"
        if not isinstance(arguments["early_stopping"], bool) and arguments["early_stopping"] != "never":
            return f"early_stopping is {arguments['early_stopping']}"
        prompt = prompt_tokens(model, {**asked.prompt, **asked.settings})
        if None in prompt and asked.features.shape[2] != 2 * model.config.max_source_positions:
            return "the language is to be detected, and not in a whole window"
        room = arguments["max_new_tokens"]
        if room is not None:
            if room < 1 or room + len(prompt) > model.config.max_target_positions:
                return f"max_new_tokens is {room}"
            arguments["max_length"] = room
        return decoding_settings(model, arguments, prompt)
    except (UserError, ValueError, TypeError, RuntimeError) as error:
        return f"of this: {error}"


def _like_default(name: str, value: Any) -> bool:
    default = SIGNATURE.parameters[name].default
    if value is default or (name in LISTS and isinstance(value, list) and not value):
        return True
    if isinstance(default, bool | float):
        return type(value) is type(default) and value == default
    return name in LIKE_NONE and isinstance(value, int | float) and value == LIKE_NONE[name]


def _unserved_entry(config: GenerationConfig) -> str | None:
    """The first entry of an effective generation config that is neither known here nor neutral."""
    neutral = GenerationConfig._get_default_generation_params()
    if type(config.pad_token_id) is not int or [config.pad_token_id] != list(token_ids(config.eos_token_id)):
        return "pad_token_id apart from eos_token_id"
    for name, value in vars(config).items():
        if name in READ | PROMPT | IDLE or name.startswith("_") or value is None or value is False:
            continue
        if not isinstance(value, int | float | str) or value != neutral.get(name):
            return name
    return None
