import importlib.util
import subprocess
import types
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "install_torch.py"


class Machine:
    """What pip is asked for, on a machine that has or lacks a GPU, a torch and the small build."""

    def __init__(
        self, patch: pytest.MonkeyPatch, gpu: bool = False, here: str | None = None, small: bool = True
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
            assert command[1:4] == ["-m", "pip", "install"]
            self.asked.append(command[-1])
            return types.SimpleNamespace(returncode=0 if small or not command[-1].endswith("+cpu") else 1)

        patch.setattr(subprocess, "run", run)
        patch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi" if gpu else None)
        patch.setattr(self.tool, "installed", lambda: here)


@pytest.mark.parametrize(
    ("build", "gpu", "here", "small", "asked"),
    [
        ("auto", False, None, True, ["torch==2.13.0+cpu"]),
        ("auto", True, None, True, ["torch==2.13.0"]),
        ("cpu", True, None, True, ["torch==2.13.0+cpu"]),
        ("cuda", False, None, True, ["torch==2.13.0"]),
        ("cpu", False, None, False, ["torch==2.13.0+cpu", "torch==2.13.0"]),
        ("cpu", False, "2.13.0+cpu", True, []),
        ("cpu", False, "2.13.0", True, ["torch==2.13.0+cpu"]),
        ("cpu", False, "2.12.0+cpu", True, ["torch==2.13.0+cpu"]),
    ],
)
def test_the_build_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, build: str, gpu: bool, here: str | None, small: bool, asked: list[str]
) -> None:
    machine = Machine(monkeypatch, gpu, here, small)
    assert machine.tool.main(build, "2.13.0") == 0
    assert machine.asked == asked


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(monkeypatch)
    assert machine.tool.main("rocm", "2.13.0") == 2
    assert capsys.readouterr().err == "error: TORCH is rocm: choose auto, cpu or cuda.\n"
    assert machine.asked == []


def test_a_driver_that_does_not_answer_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert not machine.tool.has_gpu()
