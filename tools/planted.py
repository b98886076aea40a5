"""Plant each fault of planted.yaml in a copy of the tree, and see whether the tests of the folder concerned find it.

    make planted                                              # all of them
    make planted ONLY="disk hub/downloads"                    # of files whose names begin so, below src/whisper_speedup
    .venv/bin/python tools/planted.py --json before.json      # and keep what was found

Without a fault the same tests must pass first. Exit code 1 when there are faults that no test finds, 2 when the list no
longer fits the source: planted.yaml says how to put that right.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import RootModel

from whisper_speedup.disk.files import write_json
from whisper_speedup.errors import UserError
from whisper_speedup.params.section import Section, read_section

ROOT = Path(__file__).resolve().parents[1]
LIST, SOURCE = Path("tools/planted.yaml"), Path("src/whisper_speedup")
LEFT_OUT = (".git", ".venv", ".venv-kernl", "build", ".dvc/cache", ".dvc/tmp")  # of the copy
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class Fault(Section):
    """One fault. `file` is below src/whisper_speedup, `tests` are below tests/: null for those of the file's folder."""

    file: str
    breaks: str
    text: str
    becomes: str
    tests: list[str] | None = None
    line: int = 0  # of planted.yaml

    @property
    def paths(self) -> list[str]:
        """What pytest runs."""
        folder = self.file.split("/")[0]
        return [f"tests/{name}" for name in self.tests or [folder if "/" in self.file else f"test_{folder}"]]

    def changed(self, tree: Path) -> str:
        """The file's content with the fault. Raises UserError where its text is not there just once."""
        path = tree / SOURCE / self.file
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (count := content.count(self.text)) != 1:
            raise UserError(
                f"{LIST}, line {self.line}: {SOURCE / self.file} has the text {self.text!r} {count} times, not once:"
                f" find where the source now decides that ({self.breaks}), and name a text from there."
            )
        return content.replace(self.text, self.becomes)


def read(tree: Path = ROOT) -> list[Fault]:
    """The faults of planted.yaml. Raises UserError."""
    found = read_section(RootModel[list[Fault]], tree / LIST).root
    nodes = yaml.compose((tree / LIST).read_text(encoding="utf-8")).value
    return [one.model_copy(update={"line": node.start_mark.line + 1}) for one, node in zip(found, nodes, strict=True)]


def failing(tree: Path, paths: Iterable[str], fault: Fault | None = None) -> str | None:
    """The first test that fails in a copy of `tree`, with a fault or without; None when all pass. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy, skip = Path(folder) / "tree", {tree / name for name in LEFT_OUT}
        shutil.copytree(tree, copy, symlinks=True, ignore=lambda at, _: {p.name for p in skip if p.parent == Path(at)})
        if fault is not None:
            (copy / SOURCE / fault.file).write_text(fault.changed(tree), encoding="utf-8")
        # Before what is installed, which is the tree itself: for the processes that tests start.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(copy / "src"), str(copy)))}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *paths]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, errors="replace")
    first = FAILED.search(done.stdout)
    if done.returncode not in (0, 1) or (done.returncode == 1) != (first is not None):
        where = f"{LIST}, line {fault.line}" if fault is not None else "without a fault"
        last = (done.stdout + done.stderr)[-300:]
        raise UserError(f"{where}: pytest {' '.join(command[8:])} ended with {done.returncode} ({last}): correct that.")
    return first[1] if first is not None else None


def main(arguments: list[str] | None = None, tree: Path = ROOT) -> int:
    """Run, print a line a fault and a table; 1 when one is not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="FILE", help="how the files' names begin")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    chosen = parser.parse_args(arguments)
    faults = [fault for fault in read(tree) if fault.file.startswith(tuple(chosen.only or [""]))]
    if not faults:
        raise UserError(f"{LIST} has no fault in a file that begins with {' or '.join(chosen.only)}: name others.")
    for fault in faults:  # before minutes are spent
        fault.changed(tree)
    if test := failing(tree, dict.fromkeys(path for fault in faults for path in fault.paths)):
        raise UserError(f"{test} fails without a fault: let the tests pass first (make test).")
    rows = []
    for fault in faults:
        rows.append({**fault.model_dump(exclude={"tests"}), "found_by": (test := failing(tree, fault.paths, fault))})
        print(f"{'found' if test else 'NOT FOUND'}: {fault.file}: {fault.breaks} ({test or 'no test'})", flush=True)
    found = sum(row["found_by"] is not None for row in rows)
    print(f"\n{found} of {len(rows)} faults are found\n\n| file | what breaks | found by |\n|---|---|---|")
    for row in rows:
        print(f"| {row['file']} | {row['breaks']} | {row['found_by'] or 'none'} |")
    if chosen.json is not None:
        write_json(chosen.json, rows)
    return int(found < len(rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
