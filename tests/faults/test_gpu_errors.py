"""A GPU that fails at any operation of a run: the real engines on a CPU, with torch itself made to raise.

Real CUDA errors, a full GPU and a broken context are benchmarks/gpu_faults.py's, which needs a GPU.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from tests.checkpoints import folders
from tests.run.test_benchmark import BUNDLED, without_times
from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.errors import UserError
from whisper_speedup.measure.records import Floor
from whisper_speedup.params.profile import Profile
from whisper_speedup.params.sources import Folder, Local
from whisper_speedup.run import benchmark, worker

ERRORS = [
    (torch.AcceleratorError("CUDA error: an illegal memory access\nSearch for"), "the GPU stopped working"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "the GPU's memory is full"),
    (RuntimeError("CUDA driver error: device lost"), "the GPU stopped working (CUDA driver error: device lost)"),
    (RuntimeError("Found no NVIDIA driver on your system."), "the GPU stopped working (Found no NVIDIA driver"),
    (RuntimeError("Triton Error [CUDA]: unspecified launch failure"), "the GPU stopped working (Triton Error"),
]  # fmt: skip


class Failing(TorchDispatchMode):
    """Counts torch's operations and raises `error` at number `at`, and at every one after it, as a dead GPU does."""

    def __init__(self, at: float = float("inf"), error: Exception | None = None) -> None:
        super().__init__()
        self.seen, self.at, self.error = 0, at, error

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.seen += 1
        if self.seen >= self.at and self.error is not None:
            raise self.error
        return operation(*arguments, **(options or {}))


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The data and model stages have run on four tones and a random Whisper."""
    monkeypatch.chdir(tmp_path)
    for key, value in {"vocab_size": 1865, "max_source_positions": 1500, "max_target_positions": 64}.items():
        monkeypatch.setitem(folders.CONFIG, key, value)
    torch.manual_seed(0)
    folders.write_folder(Path("weights"))
    Path("mine").mkdir()
    for number in range(4):
        tone = 0.1 * np.sin(2 * np.pi * 300 * (1 + number) * np.arange(8000) / 16000)
        soundfile.write(f"mine/{number}.wav", tone, 16000)
    manifest.prepare(Folder(source="folder", path="mine"), Path("build/p/data"))
    write_json(Path("build/p/model.json"), prepare(Local(source="local", path="weights")).content())
    floor = Floor(bytes=1, bandwidth_bytes_s=1.0, seconds=1.0)
    monkeypatch.setattr(worker, "_floor", lambda folder, device: floor)  # its buffers take a second
    content = yaml.safe_load(BUNDLED.read_text())
    content["measure"] = {"device": "cpu", "threads": 1}
    content["generation"] = {"num_beams": 2, "max_length": 5}
    return Profile.model_validate(content)


@pytest.mark.parametrize("engine", ["fused", pytest.param("huggingface", marks=pytest.mark.slow)])
def test_a_gpu_that_dies_at_any_operation(profile: Profile, engine: str) -> None:
    run = Path("build/p/runs") / engine
    with Failing() as counter:
        benchmark.decode(profile, "p", engine)
    expected = read_jsonl(run / "results.jsonl")
    for path in run.iterdir():
        path.unlink()
    kept: list[dict[str, Any]] = []
    partial = Path("build/p/partial") / f"{engine}.jsonl"
    failures = 0
    for number in range(20):
        error, sentence = ERRORS[number % len(ERRORS)]
        try:
            with Failing(1 + counter.seen * number // 16, error):
                benchmark.decode(profile, "p", engine)
            break  # what was kept has made this run shorter than the operation that was to fail
        except UserError as ended:
            said = str(ended)
        failures += 1
        assert said.startswith(sentence)
        assert "\n" not in said
        assert not (run / "results.jsonl").exists()
        found = [row for row in read_jsonl(partial) if "id" in row] if partial.exists() else []
        assert found[: len(kept)] == kept
        kept = found
    assert failures >= 5
    assert kept
    rows = read_jsonl(run / "results.jsonl")
    assert without_times(rows) == without_times(expected)
    assert rows[: len(kept)] == kept
    assert sum(session["rows"] for session in read_json(run / "run.json")["resumed_from"]) == len(kept)
