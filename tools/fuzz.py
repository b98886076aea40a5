"""Throw changed files at every reader of foreign bytes for a given time; keep what any of them could not refuse.

    python tools/fuzz.py                          # an hour in all, shared by the targets of tests/fuzz/targets.py
    python tools/fuzz.py --minutes 5 --only audio profile
    make fuzz MINUTES=20

Hypothesis makes the inputs, from seeds and with new numbers each round, and makes a finding smaller before it is kept.
Last, 3000 random uses of small Whispers, plain and optimised: tools/differential.py (`--only differential` for those
alone, `--cases` for another number, always the same ones).

Each target runs in a process of its own with a limit on memory and a watch on each input's time, so that a crash of a
C library, an endless loop and a bomb are findings too. A finding is written to tests/fuzz/findings/TARGET/, where the
test suite tries it again for ever; commit it together with what mends it. Exit code 1 when there was one.
"""

import argparse
import faulthandler
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from tests.fuzz.targets import HERE, TARGETS, attempt, inputs, seeds  # noqa: E402

MEMORY_BYTES = 6 * 2**30  # address space, torch's libraries included
INPUT_S = 20  # of processor time for one input
PATIENCE_S = 300  # on the clock, behind a target's share of the time
DIFFERENTIAL = "differential"
ROUND = 200  # inputs between two looks at the clock


class TooSlowError(Exception):
    """One input took longer than INPUT_S."""


def main() -> int:
    """Share the time, run, print a line a target; 1 when there were findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="for all targets together")
    every = [*sorted(TARGETS), DIFFERENTIAL]
    parser.add_argument("--only", nargs="+", choices=every, default=every, metavar="TARGET")
    parser.add_argument("--cases", type=int, default=3000, help="of the differential fuzz, beside those minutes")
    parser.add_argument("--seed", type=int, default=None, help="the same inputs again (default: others each time)")
    arguments = parser.parse_args()
    chosen = arguments.seed if arguments.seed is not None else random.SystemRandom().getrandbits(32)
    readers = [name for name in arguments.only if name != DIFFERENTIAL]
    share_s = arguments.minutes * 60 / max(len(readers), 1)
    print(f"seed {chosen}, {share_s:.0f} s a target", flush=True)
    found = 0
    for name in readers:
        with tempfile.TemporaryDirectory() as folder:
            tally = run(name, share_s, chosen, Path(folder))
        found += len(tally["findings"])
        print(json.dumps({"target": name, **tally}), flush=True)
    differs = 0
    if DIFFERENTIAL in arguments.only:
        differs = subprocess.run(
            [sys.executable, ROOT / "tools/differential.py", "--cases", str(arguments.cases)]
        ).returncode
    return 1 if found or differs else 0


def run(name: str, share_s: float, chosen: int, folder: Path) -> dict[str, Any]:
    """Fuzz one target in another process; how many inputs it read and refused, and the findings."""
    worker = multiprocessing.get_context("fork").Process(target=work, args=(name, share_s, chosen, folder))
    begin = time.monotonic()
    worker.start()
    # A C library that hangs does not hear the worker's own timer.
    worker.join(share_s + PATIENCE_S)
    if worker.is_alive():
        worker.kill()
        worker.join()
    report = folder / "report.json"
    tally: dict[str, Any] = {"read": 0, "refused": 0, "findings": []}
    if report.is_file():
        tally = json.loads(report.read_text())
    if worker.exitcode:
        why = f"its process ended with {worker.exitcode}"
        tally["findings"].append({"file": keep(name, (folder / "input").read_bytes()), "why": why})
    return {**tally, "seconds": round(time.monotonic() - begin)}


def work(name: str, share_s: float, chosen: int, folder: Path) -> None:
    """In a process of its own: rounds of inputs until the time is up, a report after each."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, too_slow)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    tally: dict[str, Any] = {"read": 0, "refused": 0, "findings": []}
    scratch = folder / "scratch"
    scratch.mkdir()
    for data in seeds(name):  # imports what is slow to import, at nobody's expense
        attempt(name, data, scratch)
    end = time.monotonic() + share_s
    number = 0
    latest = b""

    def one(data: bytes) -> None:
        nonlocal latest
        if time.monotonic() > end and not failing:
            return
        latest = data
        (folder / "input").write_bytes(latest)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        signal.setitimer(signal.ITIMER_PROF, INPUT_S)
        try:
            refusal = attempt(name, latest, scratch)
        except BaseException:
            failing.append(latest)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        tally["read" if refusal is None else "refused"] += 1

    while time.monotonic() < end and len(tally["findings"]) < 5:
        failing: list[bytes] = []
        number += 1
        options = settings(
            max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink], print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip
        try:
            seed(chosen + number)(options(given(inputs(name))(one)))()
        except BaseException as error:  # whatever a reader let out
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            tally["findings"].append({"file": keep(name, failing[-1] if failing else latest), "why": why})
        (folder / "report.json").write_text(json.dumps(tally))


def too_slow(number: int, frame: FrameType | None) -> None:
    """One input has taken INPUT_S of processor time: time on the clock would accuse a busy machine."""
    raise TooSlowError


def keep(name: str, data: bytes) -> str:
    """Write a finding; its path."""
    path = HERE / "findings" / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
