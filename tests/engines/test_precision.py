import pytest
import torch

from whisper_speedup.engines import precision
from whisper_speedup.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "device", "found"),
    [
        ("auto", CPU, "float32"), ("auto", GPU, "autocast"), ("float32", CPU, "float32"), ("float32", GPU, "float32"),
        ("half", GPU, "half"),
    ],
)  # fmt: skip
def test_what_is_asked_for_or_what_the_device_takes(asked: str, device: torch.device, found: str) -> None:
    assert precision.resolve("baseline", asked, device, on_gpu="autocast") == found


@pytest.mark.parametrize("asked", ["half", "autocast"])
def test_less_than_fp32_needs_a_gpu(asked: str) -> None:
    sentence = rf"measure\.kernl\.precision is {asked}, which needs a GPU: on a CPU say auto or float32\."
    with pytest.raises(UserError, match=sentence):
        precision.resolve("kernl", asked, CPU, on_gpu="half")
