"""Kernels run in Triton's interpreter on a CPU (tests/conftest.py), and compiled on a GPU (make test-gpu)."""

import pytest
import torch

from tests.kernels.support import HALVES, WIDTHS
from whisper_speedup.fused.launch import LaunchConfig, load_launch_config

NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


@pytest.fixture(params=[*HALVES, torch.float32], ids=NAMES.get)
def dtype(request: pytest.FixtureRequest, device: torch.device) -> torch.dtype:
    """For small shapes; fp32 shows the logic without the rounding."""
    if request.param == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter gets bf16 arithmetic wrong without saying so")
    return request.param


@pytest.fixture(params=HALVES, ids=NAMES.get)
def half(request: pytest.FixtureRequest) -> torch.dtype:
    """What the engine runs in, for full shapes on a GPU."""
    return request.param


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    """d_model of each published Whisper size; heads are 64 wide and feed-forward layers 4 times as wide."""
    return request.param


@pytest.fixture(params=["default", "measured"])
def launch(request: pytest.FixtureRequest, device: torch.device, width: int) -> LaunchConfig:
    """The default launch configuration, and the one that the engine takes on this GPU where it is another."""
    if request.param == "default":
        return LaunchConfig()
    found = load_launch_config(torch.cuda.get_device_name(device), width)
    if found == LaunchConfig():
        pytest.skip("no launch configuration was measured for this GPU and width: the engine takes the default")
    return found
