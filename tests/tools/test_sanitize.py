"""tools/sanitize.sh on machines with a stand-in for the sanitizer: what it runs, and what it says and ends with."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "sanitize.sh"


class Machine:
    """A PATH with stand-ins that write down how they are called; each ends with the code that its body gives."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        for name in ("bash", "dirname", "env"):
            (folder / name).symlink_to(str(shutil.which(name)))

    def install(self, name: str, body: str = "exit 0") -> None:
        path = self.folder / name
        path.write_text(
            f'#!/bin/bash\necho "$PYTORCH_NO_CUDA_MEMORY_CACHING|$TRITON_INTERPRET|{name} $*" >> {self.log}\n{body}\n'
        )
        path.chmod(0o755)

    def run(self, *tools: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder), "PYTHON": "some-python", "CUDA_HOME": str(self.folder / "none")}
        return subprocess.run([SCRIPT, *tools], env=environment, capture_output=True, text=True, check=False)

    def calls(self, name: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if f"|{name} " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with a GPU and a sanitizer that sees the planted error and finds nothing else."""
    made = Machine(tmp_path)
    made.install("nvidia-smi")
    made.install("some-python")
    made.install("compute-sanitizer", "case $* in *planted_error*) exit 99 ;; esac")
    return made


def test_both_tools_over_the_small_tests(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    planted, memcheck, racecheck = machine.calls("compute-sanitizer")
    assert planted.startswith("1|0|")
    assert planted.endswith("--tool memcheck some-python tools/planted_error.py")
    for call, tool, caching in ((memcheck, "memcheck", "1"), (racecheck, "racecheck", "")):
        assert call.startswith(f"{caching}|0|")
        assert f"--error-exitcode 99 --kernel-name regex=^_[a-z_]+_kernel$ --tool {tool} some-python -m pytest" in call
        assert "tests/kernels -k not full" in call
    assert len(machine.calls("some-python")) == 1, "once without the sanitizer"


def test_one_tool(machine: Machine) -> None:
    assert machine.run("racecheck").returncode == 0
    assert [call.split("--tool ")[1].split()[0] for call in machine.calls("compute-sanitizer")[1:]] == ["racecheck"]


def test_what_a_tool_finds_fails_after_the_other_has_run(machine: Machine) -> None:
    machine.install("compute-sanitizer", "case $* in *planted_error*|*memcheck*) exit 99 ;; esac")
    assert machine.run().returncode == 1
    assert "racecheck" in machine.calls("compute-sanitizer")[-1]


def test_tests_that_fail_anyway(machine: Machine) -> None:
    machine.install("some-python", "exit 1")
    done = machine.run()
    assert (done.returncode, done.stderr) == (1, "error: the tests fail without the sanitizer too.\n")


@pytest.mark.parametrize(
    ("missing", "says"),
    [("compute-sanitizer", "compute-sanitizer is not installed: install"), ("nvidia-smi", "no NVIDIA GPU answers")],
)
def test_what_is_missing_is_named(machine: Machine, missing: str, says: str) -> None:
    (machine.folder / missing).unlink()
    done = machine.run()
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.count("\n") == 1


def test_a_sanitizer_that_is_blind_is_refused(machine: Machine) -> None:
    machine.install("compute-sanitizer")
    done = machine.run()
    assert done.returncode == 2
    assert "it does not see kernels here" in done.stderr


def test_another_word_is_refused(machine: Machine) -> None:
    done = machine.run("memchek")
    assert done.returncode == 2
    assert done.stderr == "error: there is no tool memchek: say memcheck, racecheck or nothing.\n"


def test_the_planted_error_is_among_the_kernels_that_are_checked() -> None:
    """As are all of ours: the filter is by name."""
    pattern = re.search(r"regex=(\S+)'", SCRIPT.read_text())
    assert pattern is not None
    sources = [SCRIPT.with_name("planted_error.py"), *(SCRIPT.parents[1] / "src/whisper_speedup/kernels").glob("*.py")]
    kernels = [name for path in sources for name in re.findall(r"def (_\w+_kernel)\(", path.read_text())]
    assert len(kernels) >= 9
    assert all(re.fullmatch(pattern[1], name) for name in kernels)
