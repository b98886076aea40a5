"""Kernels run in Triton's interpreter on a CPU, and compiled on a GPU (make test-gpu)."""

import os

import pytest
import torch

# Triton decides when a kernel is defined, so this must come before any kernel is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
