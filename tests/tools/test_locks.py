"""The locks: a hash for every file, all that pyproject.toml asks for, and the same torch in both builds."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock")) + ["requirements-kernl.txt"]
OF_TORCH = {"torch", "triton"}


def entries(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package, by its normalised name."""
    found: dict[str, tuple[str, list[str]]] = {}
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pin, *rest = line.split()
        package, number = pin.split("==")
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in rest), line[:80]
        found[normalised(package)] = (number, rest)
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes(name: str) -> None:
    """pip refuses a file without one, so a line added by hand ends here: run make lock."""
    assert [package for package, (_, hashes) in entries(name).items() if not hashes] == []


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in ("bundled", "gpu", "dev") for one in project["optional-dependencies"][extra]),
    ]
    names = {normalised(re.split(r"[<>=!~\[ ;]", one)[0]) for one in asked}
    shared = set(entries("requirements.lock")) | set(entries("requirements-build.lock"))
    assert names - OF_TORCH - shared == set()
    for build in ("cpu", "cuda"):
        assert set(entries(f"requirements-torch-{build}.lock")) >= OF_TORCH
    assert not OF_TORCH & shared


def test_both_builds_are_of_one_torch() -> None:
    cpu, cuda = (entries(f"requirements-torch-{build}.lock")["torch"][0] for build in ("cpu", "cuda"))
    assert cpu == f"{cuda}+cpu"
