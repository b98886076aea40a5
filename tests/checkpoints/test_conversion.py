import numpy as np
import pytest
import torch

from tests.checkpoints.ctranslate2_files import model_bytes, whisper_variables
from tests.tiny_whisper import tiny_whisper
from whisper_speedup.checkpoints.conversion import layers, whisper_state_dict
from whisper_speedup.checkpoints.ctranslate2 import Array, parse
from whisper_speedup.errors import UserError


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    model = tiny_whisper(seed=5)
    for parameter in model.parameters():  # no bias may stay zero, or a swapped one would not show
        torch.nn.init.normal_(parameter)
    return dict(model.state_dict())


@pytest.fixture
def variables(state: dict[str, torch.Tensor]) -> dict[str, Array]:
    return whisper_variables(state)


def test_a_model_comes_back_through_the_file(state: dict[str, torch.Tensor], variables: dict[str, Array]) -> None:
    data = model_bytes(variables, {"decoder/projection/weight": "decoder/embeddings/weight"})
    found = whisper_state_dict(parse(data, "WhisperSpec", 3, "model.bin"), "model.bin")
    assert set(found) == set(state) - {"proj_out.weight"}
    for key, value in found.items():
        assert torch.equal(value, state[key]), key


def test_layers_are_counted(variables: dict[str, Array]) -> None:
    assert layers(variables, "encoder") == 1
    assert layers(variables, "decoder") == 2


def test_keys_with_a_bias_are_refused(variables: dict[str, Array]) -> None:
    variables["encoder/layer_0/self_attention/linear_0/bias"][40] = 1  # 32 wide: 32 to 63 are the keys
    with pytest.raises(UserError, match="linear_0 gives its keys a bias"):
        whisper_state_dict(variables, "model.bin")


@pytest.mark.parametrize(
    "missing", ["decoder/embeddings/weight", "decoder/layer_1/ffn/linear_0/bias", "encoder/layer_norm/gamma"]
)
def test_a_missing_variable_is_named(variables: dict[str, Array], missing: str) -> None:
    del variables[missing]
    with pytest.raises(UserError, match=f"{missing} is missing"):
        whisper_state_dict(variables, "model.bin")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("decoder/pre_norm", np.array(0, np.int8), "decoder/pre_norm is not 1"),
        ("decoder/relative_position_keys", np.zeros(3, np.float32), "decoder/relative_position_keys is unknown"),
        ("encoder/conv1/bias", np.zeros(31, np.float32), r"encoder/conv1 has weights of shape \(32, 8, 3\)"),
    ],
)
def test_another_architecture_is_refused(variables: dict[str, Array], key: str, value: Array, problem: str) -> None:
    variables[key] = value
    with pytest.raises(UserError, match=problem):
        whisper_state_dict(variables, "model.bin")
