"""What the cases are made of: entries of a generation config and arguments of `generate`, right, odd and wrong ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from documented_uses import Avoid, StopAt
from transformers import LogitsProcessorList, StoppingCriteriaList


@dataclass(frozen=True)
class Made:
    """Stands for what MAKERS makes of the model and the features (count, bands, frames) at hand."""

    name: str


ABSENT = Made("absent")  # an entry that is taken out of the config


def encoded(model: Any, features: torch.Tensor) -> Any:
    with torch.no_grad():
        return model.model.encoder(features[..., :40])


def mask(model: Any, features: torch.Tensor) -> torch.Tensor:
    lengths = torch.tensor([features.shape[2] - 7 * row for row in range(features.shape[0])])
    return (torch.arange(features.shape[2]) < lengths[:, None]).long()


MAKERS: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "encoder states": encoded,
    "encoder states in a tuple": lambda model, features: tuple(encoded(model, features).values()),
    "a mask": mask,
    "a mask of ones": lambda model, features: torch.ones(features.shape[0], features.shape[2], dtype=torch.long),
    "a short mask": lambda model, features: torch.ones(features.shape[0], 5, dtype=torch.long),
    "decoder ids": lambda model, features: torch.tensor([[2, 21, 30, 75, 44]]).repeat(features.shape[0], 1),
    "a processor": lambda *_: LogitsProcessorList([Avoid()]),
    "no processor": lambda *_: LogitsProcessorList(),
    "a criterion": lambda *_: StoppingCriteriaList([StopAt()]),
    "no criterion": lambda *_: StoppingCriteriaList(),
    "allowed tokens": lambda *_: lambda utterance, ids: list(range(1, 70)),
    "a generation config": lambda model, features: model.generation_config,
}

LANGUAGES: list[Any] = [
    "en", "en", "fr", "de", "<|de|>", "French", "GERMAN", "ja", "xx", "<|xx|>", "", ["fr"], ["en", "de"], 20, None,
]  # fmt: skip
TASKS: list[Any] = ["transcribe", "transcribe", "translate", "translate", "sing", "", ["translate"], None]
FORCED: list[Any] = [
    None, None, [], [(1, 21)], [(1, 22), (2, 31)], [[1, 20], [2, 30], [3, 75]], [(1, None), (2, 31)], [(2, 31)],
    [(1, 21), (2, 31), (3, 75), (4, 50), (5, 51)], [(1, 60)], [(2, 30), (1, 21)], [(0, 3)], [(3, 75)],
    [(1, 21), (3, 75)], ((1, 22), (2, 30)), torch.tensor([[1, 21], [2, 31]]), [(1, 4000)], [(1, -1)],
]  # fmt: skip
SUPPRESSED: list[Any] = [
    None, [], [-1], [-1, -5, 40], [97, 4000, 41], [50, 50, 51, 51], torch.tensor([53, 42, 67]), torch.tensor([]),
    torch.tensor([-1, 500]), torch.arange(30, 70), (77, 0, 4), list(range(60)), [1], [0, 1, 2, 3], {53, 42},
    range(40, 50), 66, torch.tensor(20), [[4, 5]], [2.0], ["x"], [None], [True],
]  # fmt: skip
ENDS: list[Any] = [
    None, 1, 0, 40, -1, 97, 4000, [1], [1, 77], [77, 53, 42, 0, 66], [], [-1], [1, 1], (1, 28), {1, 30},
    torch.tensor(1), torch.tensor([1]), torch.tensor([53, 77]), torch.tensor([[1]]), 1.0, "1", True,
]  # fmt: skip
PADS: list[Any] = [None, 1, 1, 0, 5, -1, 97, [1], torch.tensor(1), torch.tensor([1, 2]), 1.0]
# Entries that decide the prompt.
PROMPT: dict[str, list[Any]] = {
    "forced_decoder_ids": FORCED,
    "is_multilingual": [True, True, False, False, ABSENT, None],
    "lang_to_id": [
        {"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}, {"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}, {}, ABSENT, ABSENT,
        None, {"<|de|>": 22}, {"<|fr|>": 4000}, {"<|en|>": 20, "<|fr|>": 20}, {"en": 20},
    ],
    "task_to_id": [
        {"transcribe": 30, "translate": 31}, {"translate": 33}, {}, ABSENT, None, {"transcribe": 30, "translate": None},
    ],
    "language": ["en", "de", "french", "<|fr|>", "xx", None, ["de"]],
    "task": ["transcribe", "translate", "sing", None],
    "decoder_start_token_id": [2, 2, 3, 0, None, [2], torch.tensor(2), [2, 3], -1, 4000],
    "no_timestamps_token_id": [75, 60, 20, 96, 4000, None, ABSENT],
}  # fmt: skip
# Entries that `generate` takes as arguments too.
SEARCH: dict[str, list[Any]] = {
    "suppress_tokens": SUPPRESSED, "begin_suppress_tokens": SUPPRESSED, "eos_token_id": ENDS, "pad_token_id": PADS,
    "num_beams": [1, 2, 3, 4, 5, 0, None],
    "max_length": [1, 2, 5, 9, 14, 20, 61, 64, 200, 0, -3, None],
    "max_new_tokens": [1, 3, 8, 15, 60, 61, 64, 0, None],
    "min_length": [0, 1, 5, 10, 18, 40, -1, None],
    "min_new_tokens": [0, 1, 6, 11, 25, None],
    "length_penalty": [None, 0, 0.0, 1, 0.3, -0.7, -2, 3.0, True],
    "early_stopping": [True, False, "never", None, "sometimes", 0, 1],
    "repetition_penalty": [1.0, 1, 1.4, 0.7, None, 0.0, -1.0],
    "no_repeat_ngram_size": [0, 1, 2, 3, None],
    "temperature": [0.0, 1.0, 0.6, None, 0, (0.0, 0.7), -1.0],
    "do_sample": [True, True, False, None],
    "top_k": [50, 0, 5, None], "top_p": [1.0, 0.4, None],
    "num_return_sequences": [1, 2, 3, None],
    "return_dict_in_generate": [True, True, False, None],
    "output_scores": [True, True, False], "output_logits": [True],
    "output_attentions": [True, False], "output_hidden_states": [True],
    "use_cache": [True, False, None], "cache_implementation": [None, "dynamic", "static"],
    "bad_words_ids": [[[53]], [[77, 77], [4]], None], "sequence_bias": [[[[53], -9.0]], None],
    "forced_bos_token_id": [40, None], "forced_eos_token_id": [1, [1, 2], None],
    "exponential_decay_length_penalty": [(3, 1.4), None], "guidance_scale": [1.0, 2.0, None],
    "renormalize_logits": [True, False], "remove_invalid_values": [True, False], "max_time": [None, 900.0],
    "encoder_repetition_penalty": [1.0, 1.5], "num_beam_groups": [1, 2, None], "diversity_penalty": [0.0, 0.5],
    "bos_token_id": [1, 7, None], "stop_strings": [None, ["a"]],
}  # fmt: skip
ENTRIES: dict[str, list[Any]] = {
    **SEARCH, **PROMPT,
    "prev_sot_token_id": [72, 40, None, ABSENT], "max_initial_timestamp_index": [0, 10, None, ABSENT],
    "alignment_heads": [[[0, 0]], None, ABSENT], "return_timestamps": [False, None],
    "logprob_threshold": [None, -1.0], "no_speech_threshold": [None, 0.4], "compression_ratio_threshold": [None, 1.3],
    "something_else": [None, False, True, 0, 2, "x"],
}  # fmt: skip
ARGUMENTS: dict[str, list[Any]] = {
    **SEARCH,
    "prompt_ids": [torch.tensor([72, 44, 45, 46]), torch.tensor([72, *range(30, 60)]), torch.tensor([44, 45]), None],
    "prompt_condition_type": ["first-segment", "all-segments", "no-segment", None],
    "condition_on_prev_tokens": [True, False, None],
    "attention_mask": [Made("a mask"), Made("a mask of ones"), Made("a short mask"), None],
    "encoder_outputs": [Made("encoder states"), Made("encoder states in a tuple"), None],
    "decoder_input_ids": [Made("decoder ids"), None],
    "logits_processor": [Made("a processor"), Made("no processor"), [], None],
    "stopping_criteria": [Made("a criterion"), Made("no criterion"), [], None],
    "prefix_allowed_tokens_fn": [Made("allowed tokens"), None],
    "is_multilingual": [True, False, None],
    "return_timestamps": [True, False, False, None],
    "return_token_timestamps": [True, False, None], "return_segments": [True, False],
    "force_unique_generate_call": [True, False, None], "time_precision": [0.02, 0.04],
    "logprob_threshold": [None, -1.0, -9.0], "no_speech_threshold": [None, 0.4], "num_segment_frames": [None, 40, 20],
    "compression_ratio_threshold": [None, 1.3], "synced_gpus": [False, None], "generation_config": [None],
    "an_unknown_argument": [1, None], "monitor_progress": [None],
}  # fmt: skip
CONTEXTS = [
    "nothing", "no_grad", "inference_mode", "enable_grad", "default float16", "default float64", "default bfloat16",
    "autocast bfloat16", "deterministic",
]  # fmt: skip
