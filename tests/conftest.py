"""Before anything imports Triton: without a GPU, kernels run in its interpreter.

Triton decides when a kernel is defined, its own library's too, and other libraries import it early; so this must be
set before the first test module is read, and without asking torch.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    import torch

    from tests.hub.server import Repository, TestHub
    from whisper_speedup.kernels.eight_bits import WeightFormat

# The same inputs in each run, whatever the machine's load: `make fuzz` draws new ones.
settings.register_profile(
    "the same each time", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("the same each time")
# Hypothesis also draws constants that it finds in those of our modules that are imported by then. Which these are
# depends on the tests that ran before in the same process, and there is no setting for it.
NO_CONSTANTS = providers.Constants()
providers._get_local_constants = lambda: NO_CONSTANTS

if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
# On a GPU Triton rounds the inputs of fp32 products to TF32; only tests run the kernels in fp32, to see their logic.
os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
if os.environ.get("TRITON_INTERPRET") == "1":
    from tests.quick_interpreter import exchange_once

    exchange_once()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Each test draws the same numbers, whichever ran before it in its process."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> "torch.device":
    """Where kernels run: a GPU where there is one, else the CPU, in Triton's interpreter."""
    import torch

    if torch.cuda.is_available():
        # References are IEEE fp32; the baseline's tests ask for TF32.
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        return torch.device("cuda")
    if request.node.get_closest_marker("gpu"):
        pytest.skip("needs an NVIDIA GPU")
    return torch.device("cpu")


@pytest.fixture(params=["int8", "fp8"])
def weights(request: pytest.FixtureRequest, device: "torch.device") -> "WeightFormat":
    """A format of the decoder's weights that the device reads."""
    import torch

    if request.param == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        pytest.skip("this GPU does not convert fp8")
    return request.param


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small models wait for their threads more than these help, most of all on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def published() -> "list[Repository]":
    """What is on the test hub; nobody changes these."""
    from tests.hub.content import repositories

    return repositories()


@pytest.fixture
def hub(published: "list[Repository]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[TestHub]":
    """A hub of this test's own that this process is connected to, with empty caches, in an empty working directory."""
    from tests.hub.client import connect
    from tests.hub.server import TestHub

    hub = TestHub(*(replace(one, files=dict(one.files)) for one in published))
    connect(hub, tmp_path / "cache", monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield hub
    hub.stop()
