"""How many workers a machine or a cluster gives."""

import pytest
import torch
from generated_runs import profile

from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import MeasureParams
from whisper_speedup.run.choose import local_workers
from whisper_speedup.run.ray_actors import shares


def measure(workers: int | str, device: str = "cpu") -> MeasureParams:
    return profile().measure.model_copy(update={"workers": workers, "device": device})


def test_without_gpus_auto_is_the_stage_itself() -> None:
    assert local_workers(measure("auto")) == (1, [])
    assert local_workers(measure(2)) == (2, [])


def test_one_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert local_workers(measure("auto", "cuda")) == (4, ["0", "1", "2", "3"])
    assert local_workers(measure(2, "auto")) == (2, ["0", "1"])
    with pytest.raises(UserError, match=r"^measure.workers is 5, but this machine has 4 GPUs: lower it, or auto\.$"):
        local_workers(measure(5, "cuda"))


@pytest.mark.parametrize(
    ("gpus", "device", "size", "expected"),
    [
        (16, "auto", None, (16, 1, None)),
        (16, "cuda", 4, (4, 1, None)),
        (16, "cpu", None, (2, 0, 32)),
        (0, "auto", None, (2, 0, 32)),
        (0, "auto", 8, (8, 0, 8)),
    ],
)
def test_a_cluster_of_two_machines(gpus: int, device: str, size: int | None, expected: object) -> None:
    assert shares({"GPU": gpus, "CPU": 64.0}, 2, device, size) == expected


@pytest.mark.parametrize(("gpus", "device", "size"), [(2, "cuda", 3), (0, "cuda", None), (0, "auto", 65)])
def test_more_than_a_cluster_has(gpus: int, device: str, size: int | None) -> None:
    with pytest.raises(UserError, match=r"^measure.workers is .*, but the Ray cluster has .*: lower it\.$"):
        shares({"GPU": gpus, "CPU": 64.0}, 2, device, size)
