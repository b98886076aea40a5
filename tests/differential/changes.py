"""What happens to a model between two calls of `generate`; each change gives the model to call then."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tiny_whisper import varied_whisper
from transformers import GenerationConfig, WhisperForConditionalGeneration

from tests.optimize.test_weights_changed import CHANGES as OF_WEIGHTS
from tests.optimize.test_weights_changed import a_few_values
from whisper_speedup import optimize_model, restore_model

Model = WhisperForConditionalGeneration
Change = Callable[[Any], Any]


def in_place(change: Callable[[Model], Any]) -> Change:
    def changed(model: Model) -> Model:
        change(model)
        return model

    return changed


def optimised_too(model: Model) -> bool:
    return any("StandIn" in kind.__name__ for kind in type(model).__mro__)


def shallow(model: Model) -> Model:
    other = copy.copy(model)
    other.generation_config = copy.deepcopy(model.generation_config)
    other.generation_config.suppress_tokens = [40, 41, 42, 91, 87]
    return other


def merged(model: Model) -> Any:
    config = LoraConfig(r=4, target_modules=["q_proj", "fc1"], init_lora_weights=False, lora_alpha=64)
    return get_peft_model(model, config).merge_and_unload()


def adapted(model: Model) -> Any:
    config = LoraConfig(r=4, target_modules=["v_proj"], init_lora_weights=False, lora_alpha=64)
    return get_peft_model(model, config).base_model.model


def hooked(model: Model) -> None:
    model.model.decoder.layers[0].register_forward_hook(lambda module, args, output: output * 1.5)


def hooked_for_a_while(model: Model) -> None:
    model.model.encoder.register_forward_hook(lambda *_: None).remove()


def compiled_encoder(model: Model) -> None:
    model.model.encoder = torch.compile(model.model.encoder, backend="eager")


def parametrised(model: Model) -> None:
    class Twice(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * 2

    torch.nn.utils.parametrize.register_parametrization(model.model.decoder.layers[0].fc2, "weight", Twice())


def weight_normed(model: Model) -> None:
    torch.nn.utils.parametrizations.weight_norm(model.model.decoder.layers[1].fc1)


def another_layer(model: Model) -> None:
    model.model.decoder.layers[0] = varied_whisper(9).model.decoder.layers[1]


def layers_exchanged(model: Model) -> None:
    layers = model.model.decoder.layers
    layers[0].fc1, layers[1].fc1 = layers[1].fc1, layers[0].fc1


def fewer_layers(model: Model) -> None:
    del model.model.decoder.layers[1]
    model.config.decoder_layers = 1


def untied(model: Model) -> None:
    model.proj_out.weight = torch.nn.Parameter(model.proj_out.weight.detach().clone().mul_(-1))


def config_replaced(model: Model) -> None:
    model.generation_config = GenerationConfig(
        decoder_start_token_id=2, eos_token_id=1, pad_token_id=1, bos_token_id=1, max_length=9, suppress_tokens=[87, 91]
    )


def negated(model: Model) -> None:
    for parameter in model.model.decoder.parameters():
        parameter.untyped_storage().copy_(parameter.detach().mul(1.1).untyped_storage())


def optimised_again(model: Model) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    if optimised_too(model):
        optimize_model(model)


def restored(model: Model) -> None:
    if optimised_too(model):
        restore_model(model)


CHANGES: dict[str, Change] = {
    **{name: in_place(change) for name, change in OF_WEIGHTS.items()},
    **{
        change.__name__: in_place(change)
        for change in (
            a_few_values, hooked, hooked_for_a_while, compiled_encoder, parametrised, weight_normed, another_layer,
            layers_exchanged, fewer_layers, untied, config_replaced, negated, optimised_again, restored,
        )
    },
    "in training": in_place(lambda model: model.train()),
    "the encoder in training": in_place(lambda model: model.model.encoder.train()),
    "half and back": in_place(lambda model: model.half().float()),
    "double": in_place(lambda model: model.double()),
    "bfloat16": in_place(lambda model: model.bfloat16()),
    "a larger vocabulary": in_place(lambda model: model.resize_token_embeddings(101)),
    "eager attention": in_place(lambda model: model.set_attn_implementation("eager")),
    "a shallow copy": shallow,
    "a deep copy": copy.deepcopy,
    "a pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "merged": merged,
    "adapted": adapted,
}  # fmt: skip
