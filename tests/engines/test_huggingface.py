from typing import Any

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines import huggingface
from whisper_speedup.engines.huggingface import (
    BaselineParams,
    HuggingFace,
    VariantParams,
    generate_arguments,
    prompt_tokens,
)
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams

CPU = torch.device("cpu")


def generation(**changes: Any) -> GenerationParams:
    values: dict[str, Any] = {
        "num_beams": 3, "max_length": 12, "min_length": 1, "length_penalty": 1.0, "early_stopping": False,
        "language": "en", "task": "transcribe",
    }  # fmt: skip
    return GenerationParams(**{**values, **changes})


def engine(**changes: Any) -> HuggingFace:
    values: dict[str, Any] = {
        "precision": "auto", "grad_mode": "no_grad", "attention": "sdpa", "reorder_fix": False,
    }  # fmt: skip
    return HuggingFace(BaselineParams(**{**values, **changes}))


def multilingual(seed: int = 0) -> Any:
    """A tiny Whisper with two languages (10, 11) and two tasks (12, 13); 76 says that there are no timestamps."""
    model = tiny_whisper(seed)
    settings = {
        "is_multilingual": True, "lang_to_id": {"<|en|>": 10, "<|de|>": 11}, "no_timestamps_token_id": 76,
        "task_to_id": {"transcribe": 12, "translate": 13},
    }  # fmt: skip
    for name, value in settings.items():  # update() takes only what the class declares
        setattr(model.generation_config, name, value)
    return model


def test_generate_arguments_are_the_notebooks() -> None:
    english = tiny_whisper(0).generation_config
    assert generate_arguments(generation(num_beams=5, max_length=50), english) == {
        "min_length": 1, "max_length": 50, "num_beams": 5, "do_sample": False, "return_dict_in_generate": False,
        "length_penalty": 1.0, "early_stopping": False,
    }  # fmt: skip


def test_the_search_is_the_profiles() -> None:
    asked = generation(length_penalty=-0.5, early_stopping="never", min_length=3)
    arguments = generate_arguments(asked, tiny_whisper(0).generation_config)
    assert arguments["length_penalty"] == -0.5
    assert arguments["early_stopping"] == "never"
    assert arguments["min_length"] == 3


def test_beam_settings_are_left_out_without_beams() -> None:
    arguments = generate_arguments(generation(num_beams=1), tiny_whisper(0).generation_config)
    assert not {"length_penalty", "early_stopping", "language", "task"} & set(arguments)


def test_language_and_task_go_to_multilingual_checkpoints_only() -> None:
    given = generate_arguments(generation(language="de", task="translate"), multilingual().generation_config)
    assert (given["language"], given["task"]) == ("de", "translate")
    absent = generate_arguments(generation(language=None, task=None), multilingual().generation_config)
    assert not {"language", "task"} & set(absent)


@pytest.mark.parametrize(
    ("language", "task", "expected"),
    [
        ("en", "transcribe", [2, 10, 12, 76]),
        ("de", "translate", [2, 11, 13, 76]),
        (None, "transcribe", [2, None, 12, 76]),
    ],
)
def test_the_prompt_is_what_generate_uses(language: str | None, task: Any, expected: list[int | None]) -> None:
    model = multilingual()
    arguments = generate_arguments(generation(language=language, task=task), model.generation_config)
    assert prompt_tokens(model, arguments) == expected


def test_the_prompt_of_an_english_checkpoint() -> None:
    model = tiny_whisper(0)
    assert prompt_tokens(model, generate_arguments(generation(), model.generation_config)) == [2]


def test_a_language_that_the_checkpoint_lacks_is_one_sentence() -> None:
    model = multilingual()
    arguments = generate_arguments(generation(language="yue"), model.generation_config)
    with pytest.raises(UserError, match=r"^generation: ") as refused:
        prompt_tokens(model, arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("beams", [2, 5])
def test_the_reorder_fix_changes_no_token(monkeypatch: pytest.MonkeyPatch, beams: int) -> None:
    calls = 0
    fix = huggingface.reorder_self_attention_only

    def counted(cache: Any, order: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        return fix(cache, order)

    monkeypatch.setattr(huggingface, "reorder_self_attention_only", counted)
    for seed in range(6):
        tokens = []
        for reorder_fix in (False, True):
            hf = engine(reorder_fix=reorder_fix)
            hf.use(tiny_whisper(seed), generation(num_beams=beams, max_length=20), CPU)
            tokens.append(hf.generate(tiny_features(seed)).tokens)
        assert tokens[0] == tokens[1]
    assert calls > 0


@pytest.mark.parametrize("grad_mode", ["no_grad", "inference"])
def test_no_gradients_are_kept(grad_mode: str) -> None:
    hf = engine(grad_mode=grad_mode)
    hf.use(tiny_whisper(1), generation(), CPU)
    with hf._modes():
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (grad_mode == "inference")
    assert hf.generate(tiny_features(1)).tokens


@pytest.mark.parametrize("precision", ["half", "autocast"])
def test_a_gpus_precision_is_refused_on_a_cpu(precision: str) -> None:
    with pytest.raises(UserError, match=f"precision is {precision}, which needs a GPU"):
        engine(precision=precision).use(tiny_whisper(0), generation(), CPU)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("float32", torch.float32), ("half", torch.float16), ("bfloat16", torch.bfloat16), ("float64", torch.float64),
        ("autocast", torch.float32),
    ],
)  # fmt: skip
def test_a_variant_computes_on_a_cpu_what_it_is_asked_for(precision: str, dtype: torch.dtype) -> None:
    hf = variant(precision)
    hf.use(tiny_whisper(1).to(dtype), generation(), CPU)
    computed = []
    hf.model.model.decoder.layers[0].fc1.register_forward_hook(lambda *found: computed.append(found[2].dtype))
    assert hf.generate(tiny_features(1)).tokens
    assert set(computed) == {torch.float16 if precision == "autocast" else dtype}
    assert (hf.settings["precision"], hf.dtype) == (precision, str(dtype).removeprefix("torch."))


def test_tf32_is_refused_on_a_cpu() -> None:
    with pytest.raises(UserError, match="precision is tf32, which needs a GPU"):
        variant("tf32").use(tiny_whisper(0), generation(), CPU)


def variant(precision: str) -> HuggingFace:
    return HuggingFace(VariantParams(precision=precision, grad_mode="no_grad", attention="sdpa", reorder_fix=False))


def test_auto_is_float32_on_a_cpu_and_recorded() -> None:
    hf = engine()
    hf.use(tiny_whisper(0), generation(), CPU)
    assert (hf.settings["precision"], hf.dtype, hf.prompt) == ("float32", "float32", [2])


@pytest.mark.parametrize("beams", [1, 3])
def test_warm_up_decodes_to_the_limit(beams: int) -> None:
    hf = engine()
    hf.use(tiny_whisper(0, eos_bias=50.0), generation(num_beams=beams, max_length=12), CPU)
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    hf.model.model.decoder.register_forward_hook(count)
    assert not hf.generate(tiny_features(0)).truncated
    short, steps = steps, 0
    hf.warm_up(tiny_features(0))
    assert steps == 12 > short


def test_a_text_that_reaches_the_models_last_position_is_truncated() -> None:
    hf = engine()
    hf.use(multilingual(), generation(max_length=448, min_length=448), CPU)
    found = hf.generate(tiny_features(0))
    assert (len(found.tokens), found.truncated) == (64 - len(hf.prompt), True)


def test_a_hypothesis_at_the_limit_is_truncated() -> None:
    hf = engine()
    hf.use(tiny_whisper(0, eos_bias=-50.0), generation(max_length=5), CPU)
    found = hf.generate(tiny_features(0))
    assert (len(found.tokens), found.truncated, found.score) == (5, True, None)
