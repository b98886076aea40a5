"""The decode stage with the fake engines, as a process that can be killed: driver.py ENGINE [RAY_ADDRESS]."""

import sys
from pathlib import Path

from tests.run.fakes import maker
from whisper_speedup.cli import main
from whisper_speedup.run import benchmark

if __name__ == "__main__":
    benchmark.create = maker(Path.cwd())
    engine, *address = sys.argv[1:]
    main(["decode", "--profile", "p", "--engine", engine, *[f"--ray-address={one}" for one in address]])
