import importlib.util
import subprocess
import types
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "install_torch.py"
NOT_OFFERED = "ERROR: No matching distribution found for torch==2.13.0+cpu"
ANOTHER_FILE = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


class Machine:
    """What pip is asked for, on a machine that has or lacks a GPU and a torch; `small`: why the small build fails."""

    def __init__(
        self, patch: pytest.MonkeyPatch, gpu: bool = False, here: str | None = None, small: str | None = None
    ) -> None:
        spec = importlib.util.spec_from_file_location("install_torch", PATH)
        assert spec is not None
        assert spec.loader is not None
        self.tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.tool)
        self.asked: list[str] = []

        def run(command: list[str], **kwargs: object) -> object:
            if command[0] == "nvidia-smi":
                return types.SimpleNamespace(returncode=0 if gpu else 9)
            if command[3] == "uninstall":
                self.asked.append("uninstall")
                return types.SimpleNamespace(returncode=0)
            assert command[1:4] == ["-m", "pip", "install"]
            assert "--require-hashes" in command
            assert "--no-deps" in command
            lock = Path(command[-1])
            assert lock.is_file()
            self.asked.append(lock.name)
            failed = small is not None and lock.name.endswith("cpu.lock")
            return types.SimpleNamespace(returncode=int(failed), stderr=small if failed else "")

        patch.setattr(subprocess, "run", run)
        patch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi" if gpu else None)
        patch.setattr(self.tool, "installed", lambda: here)


CPU, CUDA = "requirements-torch-cpu.lock", "requirements-torch-cuda.lock"


@pytest.mark.parametrize(
    ("build", "gpu", "here", "small", "asked"),
    [
        ("auto", False, None, None, [CPU]),
        ("auto", True, None, None, [CUDA]),
        ("cpu", True, None, None, [CPU]),
        ("cuda", False, None, None, [CUDA]),
        ("cpu", False, None, NOT_OFFERED, [CPU, CUDA]),
        ("cpu", False, "2.13.0+cpu", None, [CPU]),
        ("cpu", False, "2.13.0", None, [CPU]),
        ("cuda", False, "2.13.0+cpu", None, ["uninstall", CUDA]),
        ("cuda", True, "2.13.0", None, [CUDA]),
    ],
)
def test_the_build_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, build: str, gpu: bool, here: str | None, small: str | None, asked: list[str]
) -> None:
    machine = Machine(monkeypatch, gpu, here, small)
    assert machine.tool.main(build) == 0
    assert machine.asked == asked


def test_a_file_that_is_not_the_locked_one_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gigabytes of the other build are no answer to a file that should not be trusted."""
    machine = Machine(monkeypatch, small=ANOTHER_FILE)
    assert machine.tool.main("cpu") == 2
    assert machine.asked == [CPU]
    assert "whose SHA-256 is not in requirements-torch-cpu.lock" in capsys.readouterr().err


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(monkeypatch)
    assert machine.tool.main("rocm") == 2
    assert capsys.readouterr().err == "error: TORCH is rocm: choose auto, cpu or cuda.\n"
    assert machine.asked == []


def test_a_driver_that_does_not_answer_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert not machine.tool.has_gpu()
