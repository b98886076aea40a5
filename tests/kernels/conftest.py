"""Kernels run in Triton's interpreter on a CPU (tests/conftest.py), and compiled on a GPU (make test-gpu)."""

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
