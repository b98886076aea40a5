"""Every use of Whisper's `generate` that transformers documents, as calls on a small random model.

docs/optimize_model.md has a row for each, and says which path it takes.
"""

from collections.abc import Callable
from typing import Any

import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import (
    EncoderDecoderCache,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    WhisperForConditionalGeneration,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

Use = Callable[[WhisperForConditionalGeneration, int], Any]
ENGLISH = {"language": "en", "task": "transcribe"}
WINDOWS = 12  # more windows than any of these recordings needs: transformers would never return


class Avoid(LogitsProcessor):
    """A user's logits processor: no token 40 to 50."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, 40:50] = -float("inf")
        return scores


class StopAt(StoppingCriteria):
    """A user's stopping criterion: after so many tokens, prompt included."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full(input_ids.shape[:1], input_ids.shape[1] >= 11)


class Collect(BaseStreamer):
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[Any] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens.append(value.clone())

    def end(self) -> None:
        self.tokens.append("end")


def batch(seed: int, count: int, frames: int = 40) -> torch.Tensor:
    """Features (count, 8, frames)."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, frames, generator=noise)


def mask(lengths: list[int], frames: int) -> torch.Tensor:
    """Attention mask (utterances, frames)."""
    return (torch.arange(frames) < torch.tensor(lengths)[:, None]).long()


def stopped_when_it_hangs() -> Callable[[torch.Tensor], None]:
    """A monitor_progress that ends what random weights would go on with for ever."""
    windows = 0

    def watch(_: torch.Tensor) -> None:
        nonlocal windows
        windows += 1
        assert windows <= WINDOWS, "this random model never ends: take another seed"

    return watch


def short(**kwargs: Any) -> Use:
    """One recording of one window."""
    return lambda model, seed: model.generate(tiny_features(seed), **kwargs)


def timed(frames: int = 40, utterances: int = 1, **kwargs: Any) -> Use:
    """With timestamps, one or more windows."""
    return lambda model, seed: model.generate(
        batch(seed, utterances, frames), return_timestamps=True, monitor_progress=stopped_when_it_hangs(), **kwargs
    )


def assisted(model: WhisperForConditionalGeneration, seed: int) -> Any:
    return model.generate(tiny_features(seed), assistant_model=multilingual_whisper(seed + 50), **ENGLISH)


def forced(model: WhisperForConditionalGeneration, seed: int) -> Any:
    model.generation_config.forced_decoder_ids = [(1, 21), (2, 30), (3, 75)]
    return model.generate(tiny_features(seed), num_beams=3)


def encoded(model: WhisperForConditionalGeneration, seed: int) -> Any:
    with torch.no_grad():
        states = model.model.encoder(tiny_features(seed))
    return model.generate(encoder_outputs=states, **ENGLISH)


def streamed(model: WhisperForConditionalGeneration, seed: int) -> Any:
    streamer = Collect()
    return model.generate(tiny_features(seed), streamer=streamer, **ENGLISH), streamer.tokens


def trained(model: WhisperForConditionalGeneration, seed: int) -> Any:
    model.train()
    return model.generate(tiny_features(seed), **ENGLISH)


PROMPT = torch.tensor([72, 44, 45, 46])
LONGER_PROMPT = torch.tensor([72, *range(40, 60)])
ALL_SCORES = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
FALLBACK = {
    "temperature": (0.0, 0.4, 0.8), "logprob_threshold": -0.5, "compression_ratio_threshold": 1.2,
    "no_speech_threshold": 0.3,
}  # fmt: skip
USES: dict[str, Use] = {
    "greedy": short(**ENGLISH),
    "beam search": short(num_beams=5, **ENGLISH),
    "beam search settings": short(num_beams=3, length_penalty=0.6, early_stopping=True, min_length=7, **ENGLISH),
    "max_new_tokens": short(max_new_tokens=7, num_beams=2, **ENGLISH),
    "sampling with a seed": short(temperature=0.8, top_k=20, **ENGLISH),
    "num_return_sequences": short(do_sample=True, temperature=0.8, num_return_sequences=3, **ENGLISH),
    "temperature fallback with thresholds": timed(**FALLBACK, **ENGLISH),
    "return_timestamps": timed(num_beams=2, **ENGLISH),
    "return_segments": timed(return_segments=True, **ENGLISH),
    "return_token_timestamps": short(return_token_timestamps=True, **ENGLISH),
    "long-form audio": timed(frames=100, num_beams=3, **ENGLISH),
    "long-form audio with fallback": timed(frames=100, **FALLBACK, **ENGLISH),
    "long-form audio, condition_on_prev_tokens": timed(frames=100, condition_on_prev_tokens=True, **ENGLISH),
    "a batch": lambda model, seed: model.generate(batch(seed, 3), num_beams=3, **ENGLISH),
    "a batch of long-form audio with an attention mask": timed(
        frames=100, utterances=3, attention_mask=mask([100, 60, 85], 100), **ENGLISH
    ),
    "such a batch, condition_on_prev_tokens": timed(
        frames=100, utterances=3, attention_mask=mask([100, 60, 85], 100), condition_on_prev_tokens=True, **ENGLISH
    ),
    "an attention mask": short(attention_mask=mask([33], 40), num_beams=2, **ENGLISH),
    "prompt_ids": short(prompt_ids=PROMPT, num_beams=3, **ENGLISH),
    "a prompt of many tokens": short(prompt_ids=LONGER_PROMPT, num_beams=3, **ENGLISH),
    "prompt_condition_type all-segments": timed(
        frames=100, prompt_ids=PROMPT, prompt_condition_type="all-segments", condition_on_prev_tokens=True, **ENGLISH
    ),
    "language detection": short(num_beams=2),
    "language detection in a batch": lambda model, seed: model.generate(batch(seed, 3)),
    "a language for each": lambda model, seed: model.generate(batch(seed, 2), language=["en", "fr"]),
    "task translate": short(language="fr", task="translate", num_beams=2),
    "forced_decoder_ids": forced,
    "return_dict_in_generate with scores": short(**ALL_SCORES, **ENGLISH),
    "the same with beams": short(num_beams=4, **ALL_SCORES, **ENGLISH),
    "an assistant model": assisted,
    "a LogitsProcessor": short(num_beams=3, logits_processor=LogitsProcessorList([Avoid()]), **ENGLISH),
    "a StoppingCriteria": short(num_beams=3, stopping_criteria=StoppingCriteriaList([StopAt()]), **ENGLISH),
    "prefix_allowed_tokens_fn": short(prefix_allowed_tokens_fn=lambda batch_id, ids: list(range(1, 60)), **ENGLISH),
    "repetition_penalty, no_repeat_ngram_size": short(repetition_penalty=1.3, no_repeat_ngram_size=2, **ENGLISH),
    "a streamer": streamed,
    "encoder_outputs": encoded,
    "use_cache=False": short(use_cache=False, **ENGLISH),
    "cache_implementation": short(cache_implementation="static", **ENGLISH),
    "output_attentions, output_hidden_states": short(
        num_beams=2, return_dict_in_generate=True, output_attentions=True, output_hidden_states=True, **ENGLISH
    ),
    "training mode": trained,
}


def assert_same(one: Any, other: Any, where: str = "result") -> None:
    """Equal types, shapes and tokens; floating-point values within 1e-4."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor), where
        assert (one.shape, one.dtype) == (other.shape, other.dtype), where
        if one.is_floating_point():
            torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4, msg=lambda text: f"{where}: {text}")
        else:
            assert torch.equal(one, other), (where, one, other)
        return
    assert type(one) is type(other), where
    if isinstance(one, EncoderDecoderCache):
        for half in ("self_attention_cache", "cross_attention_cache"):
            pairs = zip(getattr(one, half).layers, getattr(other, half).layers, strict=True)
            for index, (a, b) in enumerate(pairs):
                assert_same((a.keys, a.values), (b.keys, b.values), f"{where}.{half}[{index}]")
    elif isinstance(one, ModelOutput | dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    else:
        assert one == other, where
