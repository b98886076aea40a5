"""Calls whose answer transformers works out in a way of its own: prompts, suppressed tokens, ends, copies, parts."""

import copy
import warnings
from itertools import product
from typing import Any

import pytest
import torch
from tiny_whisper import tiny_features, varied_whisper
from transformers import WhisperForConditionalGeneration
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

from whisper_speedup import explain_path, last_path, optimize_model
from whisper_speedup.errors import UserError
from whisper_speedup.optimize.public import decoder_path, whole_model

Model = WhisperForConditionalGeneration


def pair(seed: int = 1, **entries: Any) -> tuple[Model, Model]:
    """A plain model and an optimised one, with these entries in the generation config (None takes one out)."""
    models = varied_whisper(seed), varied_whisper(seed)
    for model in models:
        for name, value in entries.items():
            setattr(model.generation_config, name, value)
            if value is None and name == "lang_to_id":
                delattr(model.generation_config, name)
    optimize_model(models[1])
    return models


def answer(model: Model, seed: int = 1, frames: int = 40, **arguments: Any) -> Any:
    """The tokens, or what was raised."""
    try:
        return model.generate(tiny_features(seed)[:, :, :frames], **arguments).tolist()
    except Exception as error:  # the type and the text are compared
        return type(error).__name__, str(error)


FORCED = [None, [(1, 21), (2, 30), (3, 75)], [(1, None), (2, 31)], [(1, 22)]]
ASKED: list[dict[str, Any]] = [{}, {"task": "translate"}, {"language": "fr"}, {"language": "de", "task": "transcribe"}]


@pytest.mark.parametrize("forced", FORCED, ids=str)
@pytest.mark.parametrize("languages", [{"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22}, {}, None], ids=["three", "{}", "no"])
def test_the_prompt(forced: Any, languages: Any) -> None:
    for number, (multilingual, asked) in enumerate(product((True, False), ASKED)):
        in_call = (number + bool(multilingual)) % 2  # else in the generation config; each `asked` is in both
        plain, ours = pair(
            forced_decoder_ids=forced, lang_to_id=languages, is_multilingual=multilingual, **({} if in_call else asked)
        )
        arguments = asked if in_call else {}
        expected = answer(plain, num_beams=2, **arguments)
        assert answer(ours, num_beams=2, **arguments) == expected, (multilingual, asked, arguments)


@pytest.mark.parametrize("entry", ["suppress_tokens", "begin_suppress_tokens"])
@pytest.mark.parametrize(
    "ids", [[-1], [-1, 97, 5000, 91], torch.tensor([91, 87, 40]), (91, 87), [], [91, 91], torch.tensor([-1])], ids=str
)  # fmt: skip
def test_suppressed_tokens(entry: str, ids: Any) -> None:
    plain, ours = pair(1, **{entry: ids})
    assert answer(ours, language="en", num_beams=3) == answer(plain, language="en", num_beams=3)
    assert last_path(ours).path == "whole model"


def test_a_long_tensor_of_suppressed_tokens_that_changes_in_its_middle() -> None:
    plain, ours = pair(suppress_tokens=torch.arange(2000) + 1000)
    for _ in range(2):
        assert answer(ours, language="en") == answer(plain, language="en")
        for model in (plain, ours):
            model.generation_config.suppress_tokens[600:1400] = torch.arange(800) % 97 // 2


@pytest.mark.parametrize(
    "entries",
    [
        {"eos_token_id": None}, {"eos_token_id": None, "pad_token_id": None}, {"eos_token_id": [1, 40]},
        {"eos_token_id": torch.tensor(1)}, {"eos_token_id": torch.tensor([1])}, {"eos_token_id": 5000},
        {"eos_token_id": [1], "pad_token_id": 1}, {"eos_token_id": -1, "pad_token_id": -1}, {"length_penalty": None},
        {"early_stopping": None}, {"num_beams": None}, {"max_length": None}, {"min_length": None},
    ],
    ids=str,
)  # fmt: skip
def test_ends_and_limits(entries: dict[str, Any]) -> None:
    for beams in (1, 3):
        plain, ours = pair(**entries)
        arguments = {"language": "en", "max_new_tokens": 12} | ({} if "num_beams" in entries else {"num_beams": beams})
        assert answer(ours, **arguments) == answer(plain, **arguments)


@pytest.mark.parametrize("penalty", [None, 0, -1.0, 2])
def test_length_penalties(penalty: Any) -> None:
    plain, ours = pair()
    arguments = {"language": "en", "num_beams": 3, "length_penalty": penalty}
    assert answer(ours, **arguments) == answer(plain, **arguments)


@pytest.mark.parametrize("frames", [40, 39, 20, 1])
@pytest.mark.parametrize("asked", [{}, {"language": "en"}], ids=["detected", "named"])
def test_a_short_window(frames: int, asked: dict[str, Any]) -> None:
    plain, ours = pair()
    assert answer(ours, frames=frames, **asked) == answer(plain, frames=frames, **asked)


def test_transformers_warning_of_lengths_that_cannot_be_comes_each_time() -> None:
    plain, ours = pair()
    for _ in range(2):
        for model in (plain, ours):
            with pytest.warns(UserWarning, match="Unfeasible length constraints"):
                model.generate(tiny_features(1), language="en", min_length=30, max_length=10)
    assert "Unfeasible" in last_path(ours).reason


@pytest.mark.parametrize("beams", [1, 3])
def test_another_default_type(beams: int) -> None:
    plain, ours = pair()
    features, arguments = tiny_features(1), {"language": "en", "num_beams": beams}
    expected = plain.generate(features, **arguments)
    torch.set_default_dtype(torch.float16)
    try:
        assert torch.equal(ours.generate(features, **arguments), expected)
        assert last_path(ours).path == "whole model"
        assert torch.equal(ours.generate(features, min_new_tokens=0, **arguments), expected)
        assert last_path(ours).path == "decoder"
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_shallow_copy_has_settings_of_its_own() -> None:
    plain, ours = pair()
    for model in (plain, ours):
        answer(model, language="en")
    for model in (plain, ours):
        other = copy.copy(model)
        other.generation_config = copy.deepcopy(model.generation_config)
        other.generation_config.suppress_tokens = list(range(40, 97))
        model.other = [other]  # a list: no submodule
    assert answer(ours.other[0], language="en") == answer(plain.other[0], language="en")
    assert answer(ours, language="en") == answer(plain, language="en") != answer(plain.other[0], language="en")
    assert whole_model(ours.other[0]) is None


def test_a_replica_of_data_parallel_runs_its_own_weights() -> None:
    plain, ours = pair()
    tokens, states = torch.tensor([[2, 20, 30]]), torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(1))
    replicas = []
    for model in (plain, ours):
        replica = model.model.decoder._replicate_for_data_parallel()
        replica._modules = {**replica._modules, "layer_norm": torch.nn.LayerNorm(32, eps=0.7)}
        replicas.append(replica)
    with torch.no_grad():
        one, other = (replica(tokens, encoder_hidden_states=states)[0] for replica in replicas)
    assert torch.equal(one, other)
    assert decoder_path(replicas[1]) is None


def test_a_compiled_encoder() -> None:
    plain, ours = pair()
    for model in (plain, ours):
        model.model.encoder = torch.compile(model.model.encoder, backend="eager")
    for _ in range(2):
        assert answer(ours, language="en", num_beams=2) == answer(plain, language="en", num_beams=2)
    assert "model.encoder" in last_path(ours).reason


def test_a_compiled_decoder_is_refused_in_one_sentence_that_names_it() -> None:
    model = varied_whisper(1)
    model.model.decoder = torch.compile(model.model.decoder, backend="eager")
    with pytest.raises(UserError, match=r"decoder of this one is a compiled module \(torch.compile\)"):
        optimize_model(model)


def test_an_optimised_object_goes_by_its_class_name() -> None:
    """transformers finds output capture by it, pipelines choose by it, and a checkpoint's config names it."""
    plain, ours = pair()
    for one, other in ((plain, ours), (plain.model.decoder, ours.model.decoder)):
        assert str(type(one)) == str(type(other))
        assert isinstance(other, type(one))
        assert str(type(other)) in _CAN_RECORD_REGISTRY
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        states = torch.zeros(1, 20, 32)
        shown = [
            model.model.decoder(torch.tensor([[2]]), encoder_hidden_states=states, output_hidden_states=True)
            for model in (plain, ours)
        ]
    assert len(shown[0].hidden_states) == len(shown[1].hidden_states) == 3


def doubled(own: Any) -> Any:
    return lambda self, *args, **kwargs: own(self, *args, **kwargs) * 2


def hooked_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a profiler or a debugger hooks: all modules that there are and will be."""
    hooks: dict[int, Any] = {7: lambda module, args, output: output * 3 if type(module) is torch.nn.Linear else None}
    monkeypatch.setattr(torch.nn.modules.module, "_global_forward_hooks", hooks)


def patched_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As packages do that bring kernels of their own."""
    monkeypatch.setattr(torch.nn.LayerNorm, "forward", doubled(torch.nn.LayerNorm.forward))


@pytest.mark.parametrize("change", [hooked_everywhere, patched_everywhere])
@pytest.mark.parametrize("late", [True, False], ids=["after a call", "before it"])
def test_what_is_changed_of_all_modules(change: Any, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, ours = pair()
    before = answer(ours, language="en") if late else answer(plain, language="en")
    change(monkeypatch)
    assert answer(ours, language="en") == answer(plain, language="en") != before
    assert "every" in explain_path(ours, tiny_features(1), language="en").reason


def test_a_shallow_copy_can_be_optimised_too() -> None:
    plain, ours = pair()
    other = copy.copy(ours)
    optimize_model(other)
    assert answer(other, language="en") == answer(ours, language="en") == answer(plain, language="en")
    assert last_path(other).path == "whole model"


@pytest.mark.parametrize("token", [5000, -1])
@pytest.mark.parametrize("sampled", [True, False])
def test_a_prompt_outside_the_vocabulary(token: int, sampled: bool) -> None:
    plain, ours = pair(lang_to_id={"<|en|>": token})
    found, expected = (answer(model, language="en", do_sample=sampled) for model in (ours, plain))
    assert found == expected
    assert found[0] == "IndexError"


@pytest.mark.parametrize(("name", "value"), [("decoder_layers", 1), ("vocab_size", 90)])
def test_a_configuration_that_the_model_does_not_have(name: str, value: int) -> None:
    plain, ours = pair()
    answer(ours, language="en", num_beams=2)
    for model in (plain, ours):
        setattr(model.config, name, value)
    assert answer(ours, language="en", num_beams=2) == answer(plain, language="en", num_beams=2)


def test_weights_cast_from_those_that_inference_mode_made() -> None:
    with torch.inference_mode():
        plain, ours = varied_whisper(1), varied_whisper(1)
    optimize_model(ours)
    for model in (plain, ours):
        model.half().float()
    assert answer(ours, language="en") == answer(plain, language="en")


def test_a_language_outside_the_vocabulary_that_is_not_asked_for() -> None:
    plain, ours = pair(lang_to_id={"<|en|>": 20, "<|de|>": 5000})
    assert answer(ours, language="en") == answer(plain, language="en")
    assert last_path(ours).path == "whole model"


def another_view(model: Model) -> None:
    weight = model.model.decoder.layers[0].self_attn.q_proj.weight
    weight.data = weight.data.t()


def cut_short(model: Model) -> None:
    model.model.decoder.embed_positions.weight.data = model.model.decoder.embed_positions.weight.data[:20]


def no_parameter(model: Model) -> None:
    layer = model.model.decoder.layers[0].fc1
    weight = layer.weight.detach().clone()
    del layer.weight
    layer.weight = weight.mul(2)


def a_buffer(model: Model) -> None:
    weight = model.proj_out.weight.detach().clone()
    del model.proj_out.weight
    model.proj_out.register_buffer("weight", weight)


def no_bias(model: Model) -> None:
    model.model.encoder.conv1.bias = None


@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["model", "decoder"])
@pytest.mark.parametrize("change", [another_view, cut_short, no_parameter, a_buffer, no_bias])
def test_weights_that_lie_otherwise(change: Any, whole: bool) -> None:
    plain, ours = varied_whisper(1), varied_whisper(1)
    optimize_model(ours if whole else ours.model.decoder)
    answer(ours, language="en", num_beams=2)
    for model in (plain, ours):
        change(model)
    for _ in range(2):
        assert answer(ours, language="en", num_beams=2) == answer(plain, language="en", num_beams=2)
        for model in (plain, ours):  # what is no parameter is written to behind the back of those who watch parameters
            model.model.decoder.layers[0].fc1.weight.data.mul_(3)
            model.proj_out.weight.data.mul_(-1)


def not_causal(model: Model) -> None:
    model.model.decoder.layers[0].self_attn.is_causal = False


def causal_encoder(model: Model) -> None:
    model.model.encoder.layers[0].self_attn.is_causal = True


def heads_in_the_configuration(model: Model) -> None:
    model.config.decoder_attention_heads = 2


def another_attention_in_one_layer(model: Model) -> None:
    attention = model.model.decoder.layers[0].self_attn
    attention.config = copy.deepcopy(attention.config)
    attention.config._attn_implementation = "eager"


def one_attention_for_both(model: Model) -> None:
    layer = model.model.decoder.layers[0]
    layer.encoder_attn = layer.self_attn


def no_first_product(model: Model) -> None:
    model.model.decoder.layers[0].fc1 = None


class Turned(torch.nn.Parameter):
    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(function, types, args, kwargs or {})
        return -result if function is torch.nn.functional.linear else result


def a_weight_that_computes(model: Model) -> None:
    first = model.model.decoder.layers[0].fc1
    first.weight = Turned(first.weight.detach())


@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["model", "decoder"])
@pytest.mark.parametrize(
    "change",
    [
        not_causal,
        causal_encoder,
        heads_in_the_configuration,
        another_attention_in_one_layer,
        one_attention_for_both,
        no_first_product,
        a_weight_that_computes,
    ],
)
def test_a_model_that_is_no_longer_as_its_configuration_says(change: Any, whole: bool) -> None:
    plain, ours = varied_whisper(3), varied_whisper(3)
    optimize_model(ours if whole else ours.model.decoder)
    for again in (False, True, True):
        assert answer(ours, language="en", num_beams=2) == answer(plain, language="en", num_beams=2)
        for model in () if again else (plain, ours):
            change(model)


def test_a_model_without_a_generation_config() -> None:
    plain, ours = pair()
    for model in (plain, ours):
        model.generation_config = None  # type: ignore[assignment]
    assert answer(ours, language="en") == answer(plain, language="en")


def test_a_configuration_that_asks_for_tuples() -> None:
    plain, ours = pair()
    for model in (plain, ours):
        model.config.return_dict = False
    assert answer(ours, language="en") == answer(plain, language="en") != []


def test_a_language_that_is_no_timestamps() -> None:
    for seed in range(4):
        plain, ours = pair(seed, no_timestamps_token_id=20)
        assert answer(ours, num_beams=2) == answer(plain, num_beams=2)
        assert last_path(ours).path == "decoder"


def test_a_language_that_is_detected_from_no_start() -> None:
    plain, ours = pair(decoder_start_token_id=None)
    assert answer(ours) == answer(plain)
    assert answer(plain)[0] == "TypeError"
