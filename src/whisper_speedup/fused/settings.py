"""What one decode needs to know: prompt, limits, suppressed tokens, beam search settings."""

from dataclasses import dataclass
from typing import Any

from transformers import WhisperForConditionalGeneration

from whisper_speedup.errors import UserError, shown


@dataclass(frozen=True)
class DecodingSettings:
    """The settings of transformers' `generate` that this engine serves.

    `prompt`: token ids; None at index 1 where the language is to be detected. `max_new_tokens`: what `max_length`
    means for Whisper (transformers adds the prompt to it), or `max_new_tokens` itself where `fixed_room` is set.
    `timestamp_begin`: the first timestamp token.
    """

    prompt: tuple[int | None, ...]
    num_beams: int
    max_new_tokens: int
    min_length: int
    length_penalty: float
    early_stopping: bool | str
    eos: int
    suppress: tuple[int, ...]
    begin_suppress: tuple[int, ...]
    languages: tuple[int, ...]
    timestamp_begin: int
    max_positions: int
    fixed_room: bool = False

    def max_total(self, segment: int) -> int:
        """Longest sequence, prompt included, of the given segment (0 first).

        transformers adds the prompt's length to `max_length` anew for each segment
        (`_set_max_new_tokens_and_length` changes the same object each time), so later segments may grow longer;
        with `max_new_tokens` they may not.
        """
        total = self.max_new_tokens
        for _ in range(1 if self.fixed_room else segment + 1):
            total = min(total + min(self.max_positions // 2 - 1, len(self.prompt)), self.max_positions)
        return total


# Settings of a generation config that change the text and that this engine does not serve, with their neutral values.
UNSERVED: dict[str, tuple[Any, ...]] = {
    "do_sample": (None, False),
    "return_timestamps": (None, False),
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "min_new_tokens": (None,),
    "max_new_tokens": (None,),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None,),
    "guidance_scale": (None, 1.0),
    "stop_strings": (None,),
    "max_time": (None,),
    "num_return_sequences": (None, 1),
    "compression_ratio_threshold": (None,),
    "logprob_threshold": (None,),
    "no_speech_threshold": (None,),
    "renormalize_logits": (None, False),
    "remove_invalid_values": (None, False),
}


def decoding_settings(
    model: WhisperForConditionalGeneration, arguments: dict[str, Any], prompt: list[int | None]
) -> DecodingSettings:
    """Settings for `generate(**arguments)` on this model. Raises UserError for what the engine does not serve."""
    config = model.generation_config
    for key, neutral in UNSERVED.items():
        value = getattr(config, key, None)
        if value not in neutral:
            raise UserError(
                f"the checkpoint's generation_config.json sets {key} to {value!r}, which the fused engine does not"
                " serve: remove it there, or decode with the huggingface engine only."
            )
    vocabulary = model.proj_out.weight.shape[0]
    eos = token_ids(config.eos_token_id)
    if len(eos) != 1 or not 0 <= eos[0] < vocabulary:
        raise UserError(
            f"the checkpoint's generation_config.json names {len(eos)} end-of-text tokens ({list(eos)}), and the fused"
            f" engine serves one of its {vocabulary} tokens: name one there."
        )
    if not all(token is None or 0 <= token < vocabulary for token in prompt):
        raise UserError(
            f"the prompt is {list(prompt)}, and the model has {vocabulary} tokens: correct the checkpoint's"
            " generation_config.json."
        )
    languages = token_ids(list((getattr(config, "lang_to_id", None) or {}).values())) if None in prompt else ()
    if None in prompt and not (languages and all(0 <= token < vocabulary for token in languages)):
        raise UserError(
            "the checkpoint's generation_config.json has no lang_to_id with tokens of its vocabulary, so the fused"
            " engine cannot detect the language: name it in the profile (generation.language), or correct it there."
        )
    positions = model.config.max_target_positions
    if len(prompt) >= positions:
        raise UserError(f"generation: the prompt fills all {positions} positions, so nothing can be decoded.")
    timestamps = getattr(config, "no_timestamps_token_id", None)

    def inside(ids: Any) -> tuple[int, ...]:
        """Those that are tokens: transformers passes over the others, a negative one too."""
        return tuple(token for token in token_ids(ids) if 0 <= token < vocabulary)

    num_beams = arguments["num_beams"]
    return DecodingSettings(
        prompt=tuple(prompt),
        num_beams=num_beams,
        max_new_tokens=arguments["max_length"],
        min_length=arguments["min_length"],
        length_penalty=float(arguments.get("length_penalty", 1.0)),
        early_stopping=arguments.get("early_stopping", False),
        eos=eos[0],
        suppress=inside(config.suppress_tokens),
        begin_suppress=inside(config.begin_suppress_tokens),
        languages=languages,
        timestamp_begin=timestamps + 1 if timestamps is not None else vocabulary + 1,
        max_positions=positions,
        fixed_room=bool(arguments.get("max_new_tokens")),
    )


def token_ids(value: Any) -> tuple[int, ...]:
    """Token ids of a generation config as it may hold them: nothing, one, a list or a tensor. Raises UserError."""
    if value is None:
        return ()
    ids = value.tolist() if hasattr(value, "tolist") else value
    ids = list(ids) if isinstance(ids, list | tuple | set | range) else [ids]
    ids = [one.item() if hasattr(one, "item") else one for one in ids]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise UserError(
            f"the checkpoint's generation_config.json names {shown(value)} where token ids belong: correct it."
        )
    return tuple(ids)
