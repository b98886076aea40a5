"""Changes of a Whisper between two calls of `generate`, in the ways that PyTorch, transformers and their users have.

Each is a function of the model; where it returns one, that is the model from then on. Those of `SHOWN` change so much
that the text of a varied_whisper shows it.
"""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tiny_whisper import tiny_features, varied_whisper
from torch.nn.utils import parametrizations, parametrize, prune
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

Model = WhisperForConditionalGeneration


def matrix(model: Model) -> torch.nn.Parameter:
    return model.model.decoder.layers[1].fc1.weight


def noise_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5))


def trained(optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Callable[[Model], None]:
    """One step, so large that the text changes. `fused`: the kernel that PyTorch's counters do not see."""

    def change(model: Model) -> None:
        model.train()
        steps = optimizer(model.parameters(), **options)
        labels = torch.tensor([[2, 20, 30, 75, 40, 41, 42, 1]])
        model(input_features=tiny_features(1), labels=labels).loss.backward()
        steps.step()
        steps.zero_grad()
        model.eval()

    return change


def stepped_in_eval(model: Model) -> None:
    """Gradients that came another way: no forward of ours in training mode."""
    for parameter in model.parameters():
        parameter.grad = noise_like(parameter)
    torch.optim.AdamW(model.parameters(), lr=0.2, fused=True).step()


def data_added(model: Model) -> None:
    for parameter in model.parameters():
        parameter.data.add_(noise_like(parameter))


def data_replaced(model: Model) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data + noise_like(parameter)


def averaged(model: Model) -> None:
    """An exponential moving average, as trainers keep one, swapped in."""
    average = torch.optim.swa_utils.AveragedModel(
        copy.deepcopy(varied_whisper(8)), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    average.update_parameters(varied_whisper(9))
    for one, other in zip(model.parameters(), average.module.parameters(), strict=True):
        one.data.copy_(other.data)


def written_by_numpy(model: Model) -> None:
    array = matrix(model).detach().numpy()
    array[:] = -array


def swapped(model: Model) -> None:
    torch.utils.swap_tensors(matrix(model), torch.nn.Parameter(noise_like(matrix(model))))


def another_storage(model: Model) -> None:
    with torch.no_grad():
        matrix(model).set_(noise_like(matrix(model)))


def from_a_vector(model: Model) -> None:
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(varied_whisper(7).parameters()), model.parameters()
    )


def loaded(model: Model) -> None:
    model.load_state_dict(varied_whisper(7).state_dict())


def loaded_by_assignment(model: Model) -> None:
    model.load_state_dict(varied_whisper(7).state_dict(), assign=True)


def pruned(model: Model) -> None:
    for layer in model.model.decoder.layers:
        prune.l1_unstructured(layer.encoder_attn.v_proj, "weight", amount=0.9)


def pruned_for_good(model: Model) -> None:
    pruned(model)
    for layer in model.model.decoder.layers:
        prune.remove(layer.encoder_attn.v_proj, "weight")


def another_eps(model: Model) -> None:
    model.model.decoder.layers[0].self_attn_layer_norm.eps = 0.5


def another_eps_everywhere(model: Model) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 0.5


def another_scaling(model: Model) -> None:
    model.model.decoder.layers[0].self_attn.scaling *= 40


def other_attention(model: Model) -> None:
    """A function that a user registered."""

    def uniform(module: Any, query: Any, key: Any, value: torch.Tensor, *_: Any, **__: Any) -> Any:
        return value.mean(2, keepdim=True).expand(query.shape).transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS.register("uniform", uniform)
    model.config._attn_implementation = "uniform"


def multiplied_in_place(model: Model) -> None:
    with torch.no_grad():
        matrix(model).mul_(-2)


def one_value(model: Model) -> None:
    matrix(model).data.view(-1)[17] = 9.0


def encoder_data_added(model: Model) -> None:
    model.model.encoder.conv1.weight.data.add_(noise_like(model.model.encoder.conv1.weight))


def foreach_added(model: Model) -> None:
    weights = [weight.data for weight in model.parameters()]
    torch._foreach_add_(weights, [noise_like(weight) / 3 for weight in weights])


def parameter_replaced(model: Model) -> None:
    layer = model.model.decoder.layers[0].fc2
    layer.weight = torch.nn.Parameter(noise_like(layer.weight) / 3)


def module_replaced(model: Model) -> None:
    model.model.decoder.layers[0].fc1 = torch.nn.Linear(32, 64)


def layer_replaced(model: Model) -> None:
    model.model.decoder.layers[1] = WhisperDecoderLayer(model.config, layer_idx=1).eval()


def proj_out_replaced(model: Model) -> None:
    model.proj_out = torch.nn.Linear(32, model.proj_out.out_features, bias=False)


def proj_out_with_bias(model: Model) -> None:
    size = model.proj_out.out_features
    projection = torch.nn.Linear(32, size)
    projection.weight = model.proj_out.weight
    projection.bias.data = torch.linspace(-3, 3, size)
    model.proj_out = projection


def parametrized(model: Model) -> None:
    class Negative(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return -weight

    parametrize.register_parametrization(model.model.decoder.layers[0].fc1, "weight", Negative())


def parametrizations_removed(model: Model) -> None:
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def weight_normed(model: Model) -> None:
    part = parametrizations.weight_norm(model.model.decoder.layers[0].fc1)
    part.parametrizations.weight.original0.data.mul_(3)


def spectral_normed(model: Model) -> None:
    parametrizations.spectral_norm(model.model.encoder.layers[0].fc1)


def lora_added(model: Model) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False), model)


def lora_merged(model: Model) -> Any:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "fc1"], init_lora_weights=False))
    return adapted.merge_and_unload()


def other_eps_of_the_encoder(model: Model) -> None:
    model.model.encoder.layer_norm.eps = 0.5


def other_dropout(model: Model) -> None:
    model.model.decoder.layers[0].dropout = 0.5


def other_activation(model: Model) -> None:
    model.model.decoder.layers[0].activation_fn = torch.nn.ReLU()


def other_embed_scale(model: Model) -> None:
    model.model.decoder.embed_scale = 3.0


def layer_dropped(model: Model) -> None:
    del model.model.decoder.layers[1]


def layers_exchanged(model: Model) -> None:
    layers = model.model.decoder.layers
    model.model.decoder.layers = torch.nn.ModuleList([layers[1], layers[0]]) if len(layers) > 1 else layers


def configured(name: str, value: Any, model: Model) -> None:
    setattr(model.config, name, value)


def resized(size: int, model: Model) -> None:
    model.resize_token_embeddings(size, mean_resizing=False)


def copied(copier: Callable[[Any], Any], model: Model) -> Any:
    return copier(model)


def pickled(model: Model) -> Any:
    return pickle.loads(pickle.dumps(model))


def original_changed_behind_a_copy(model: Model) -> Any:
    other = copy.deepcopy(model)
    data_added(model)
    return other


def shallow_copy_with_a_config(model: Model) -> Any:
    other = copy.copy(model)
    other.generation_config = copy.deepcopy(model.generation_config)
    other.generation_config.suppress_tokens = list(range(40, 97))
    return other


def compiled_encoder(model: Model) -> None:
    model.model.encoder = torch.compile(model.model.encoder, backend="eager")


def doubled(module: Any, arguments: Any, output: Any) -> Any:
    """A forward hook."""
    return output * 2 if isinstance(output, torch.Tensor) else None


def hooked_deep(model: Model) -> None:
    model.model.decoder.layers[0].fc1.register_forward_hook(doubled)


def hooked_on_proj_out(model: Model) -> None:
    model.proj_out.register_forward_hook(doubled)


def hooked_in_the_encoder(model: Model) -> None:
    model.model.encoder.conv2.register_forward_hook(doubled)


def pre_hooked(model: Model) -> None:
    model.model.decoder.layers[0].fc2.register_forward_pre_hook(halved)


def halved(module: Any, arguments: Any) -> Any:
    """A forward pre-hook."""
    return (arguments[0] / 2,)


def hooks_removed(model: Model) -> None:
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook in (doubled, halved)]:
                del hooks[key]


def forward_replaced(model: Model) -> None:
    part = model.model.decoder.layers[0].fc1
    part.forward = partial(torch.nn.functional.linear, weight=part.weight * 2)


def frozen(model: Model) -> None:
    model.requires_grad_(False)


def made_in_inference_mode(model: Model) -> None:
    with torch.inference_mode():
        model.load_state_dict({k: v.clone() for k, v in varied_whisper(6).state_dict().items()}, assign=True)


def another_generation_config(model: Model) -> None:
    config = copy.deepcopy(model.generation_config)
    config.suppress_tokens, config.max_length = [4, 13, 28, 56], 9
    model.generation_config = config


def a_bare_generation_config(model: Model) -> None:
    model.generation_config = GenerationConfig(decoder_start_token_id=2, eos_token_id=1, pad_token_id=1, max_length=9)


def mutated_suppress_tokens(model: Model) -> None:
    if isinstance(model.generation_config.suppress_tokens, list):
        model.generation_config.suppress_tokens.extend([4, 13, 28, 56])


def mutated_languages(model: Model) -> None:
    if isinstance(getattr(model.generation_config, "lang_to_id", None), dict):
        model.generation_config.lang_to_id["<|fr|>"] = 20


SHOWN: dict[str, Callable[[Model], Any]] = {
    **{
        f"{optimizer.__name__}, {name}": trained(optimizer, lr=0.3, **options)
        for optimizer in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)
        for name, options in (("fused", {"fused": True}), ("foreach", {"foreach": True}))
    },
    **{
        change.__name__: change
        for change in (
            stepped_in_eval, data_added, data_replaced, averaged, written_by_numpy, swapped, another_storage,
            from_a_vector, loaded, loaded_by_assignment, pruned, pruned_for_good, another_eps, another_eps_everywhere,
            another_scaling, other_attention,
        )
    },
}  # fmt: skip
CHANGES: dict[str, Callable[[Model], Any]] = {
    **SHOWN,
    **{
        change.__name__: change
        for change in (
            multiplied_in_place, one_value, encoder_data_added, foreach_added, parameter_replaced, module_replaced,
            layer_replaced, proj_out_replaced, proj_out_with_bias, parametrized, parametrizations_removed,
            weight_normed, spectral_normed, lora_added, lora_merged, other_eps_of_the_encoder, other_dropout,
            other_activation, other_embed_scale, layer_dropped, layers_exchanged, pickled,
            original_changed_behind_a_copy, shallow_copy_with_a_config, compiled_encoder, hooked_deep,
            hooked_on_proj_out, hooked_in_the_encoder, pre_hooked, hooks_removed, forward_replaced, frozen,
            made_in_inference_mode, another_generation_config, a_bare_generation_config, mutated_suppress_tokens,
            mutated_languages,
        )
    },
    **{
        f"config.{name} = {value!r}": partial(configured, name, value)
        for name, value in (
            ("use_cache", False), ("use_cache", True), ("_attn_implementation", "eager"), ("scale_embedding", True),
            ("max_target_positions", 20), ("max_source_positions", 10), ("vocab_size", 90), ("decoder_layers", 1),
            ("eos_token_id", 40), ("forced_decoder_ids", [(1, 21), (2, 31)]), ("output_attentions", True),
            ("is_causal", False), ("activation_function", "relu"), ("return_dict", False), ("pad_token_id", 3),
            ("suppress_tokens", [4, 13]), ("num_mel_bins", 9), ("decoder_start_token_id", 3), ("layerdrop", 0.5),
        )
    },
    **{f"resized to {size}": partial(resized, size) for size in (90, 101, 97)},
    **{f"{copier.__name__} of it": partial(copied, copier) for copier in (copy.copy, copy.deepcopy)},
    "half()": lambda model: model.half(), "bfloat16()": lambda model: model.bfloat16(),
    "float()": lambda model: model.float(), "double()": lambda model: model.double(),
    "half().float()": lambda model: model.half().float(), "to('cpu')": lambda model: model.to("cpu"),
    "train()": lambda model: model.train(), "eval()": lambda model: model.eval(),
    "decoder.train()": lambda model: model.model.decoder.train() and None,
    "encoder.eval()": lambda model: model.model.encoder.eval() and None,
    "set_attn_implementation('eager')": lambda model: model.set_attn_implementation("eager"),
    "tie_weights()": lambda model: model.tie_weights(),
    "gradient_checkpointing_enable()": lambda model: model.gradient_checkpointing_enable(),
}  # fmt: skip
