"""The prompt that is recorded for a run is the one that transformers decodes with."""

from itertools import product
from typing import Any

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForConditionalGeneration

from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace, generate_arguments
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams


def really(model: WhisperForConditionalGeneration, arguments: dict[str, Any]) -> list[int | None]:
    """The tokens of the decoder's first call with a cache, None for the language where a call without one came before:
    that detects it."""
    seen: list[list[int]] = []
    detected = False

    def look(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal detected
        if kwargs.get("use_cache"):
            seen.append(kwargs["input_ids"][0].tolist())
        else:
            detected = True

    hook = model.model.decoder.register_forward_pre_hook(look, with_kwargs=True)
    model.generate(tiny_features(1), **arguments)
    hook.remove()
    return [seen[0][0], None, *seen[0][2:]] if detected else list(seen[0])


FORCED = [None, [(1, 21), (2, 30), (3, 75)], [(1, None), (2, 31)], [(1, 22)]]
LANGUAGES = [{"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}, None]


@pytest.mark.parametrize("forced", FORCED, ids=str)
def test_every_engine_knows_it(forced: Any) -> None:
    decoded: list[Any] = []
    for languages, multilingual, language, task in product(LANGUAGES, (True, False), (None, "fr"), (None, "translate")):
        model = multilingual_whisper(1)
        config = model.generation_config
        config.forced_decoder_ids, config.lang_to_id, config.is_multilingual = forced, languages, multilingual
        if languages is None:
            del config.lang_to_id
        generation = GenerationParams(num_beams=2, max_length=9, language=language, task=task)
        arguments = generate_arguments(generation, config)
        try:
            expected = really(model, arguments)
        except (ValueError, KeyError, AttributeError):
            with pytest.raises(UserError):
                prompt_tokens(model, arguments)
            continue
        assert prompt_tokens(model, arguments) == expected
        if expected in decoded:
            continue
        decoded.append(expected)
        baseline = HuggingFace(BaselineParams())
        fused = Fused(FusedParams(tune="never"))
        for engine in (baseline, fused):
            engine.use(model, generation, torch.device("cpu"))
            assert engine.prompt == expected
        assert fused.generate(tiny_features(1)).tokens == baseline.generate(tiny_features(1)).tokens


def test_asking_leaves_the_model_as_it_was() -> None:
    model = multilingual_whisper(1)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    prompt_tokens(model, {"language": "fr", "num_beams": 3})
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert not model.model.decoder._forward_pre_hooks
