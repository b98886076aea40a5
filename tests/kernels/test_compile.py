"""Every kernel compiles to Ampere's and Hopper's machine code, which needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("variants", [["--one"], pytest.param([], marks=pytest.mark.slow)], ids=["one each", "all"])
def test_all_kernels_compile(variants: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("compile_all.py")
    done = subprocess.run(
        [sys.executable, str(script), "float16", *variants],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("sm_80") == done.stdout.count("sm_90") == 18
