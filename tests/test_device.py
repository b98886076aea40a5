import pytest
import torch

from whisper_speedup.device import resolve
from whisper_speedup.errors import UserError


@pytest.mark.parametrize("here", [False, True])
def test_cpu_is_a_cpu_everywhere(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    assert resolve("cpu").type == "cpu"
    assert resolve("auto").type == ("cuda" if here else "cpu")


@pytest.mark.parametrize(("build", "why"), [(None, "this torch is a CPU build"), ("13.0", "no usable NVIDIA GPU")])
def test_cuda_without_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch, build: str | None, why: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(UserError, match=why):
        resolve("cuda")


def test_cuda_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve("cuda").type == "cuda"
