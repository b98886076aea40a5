"""Which version of our own source made a number. dvc.yaml says what a stage depends on, and nothing else does."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum, auto
from pathlib import Path

import yaml

from whisper_speedup.params.profile import BASELINE

PACKAGE = Path(__file__).parents[1]
PIPELINE = PACKAGE.parents[1] / "dvc.yaml"
SUFFIXES = {".py", ".json", ".cu", ".cuh"}


class Stage(StrEnum):
    """The stages of dvc.yaml, in their order. Each is a command, but for the two that `decode`."""

    PROFILE = auto()
    ENVIRONMENT = auto()
    DATA = auto()
    MODEL = auto()
    BASELINE = auto()
    YARDSTICK = auto()
    OPTIMIZED = auto()
    ROUNDS = auto()
    COMPARE = auto()
    REPORT = auto()


def stage_of(engine: str, variant: str | None = None) -> Stage:
    """The stage that decodes with an engine, or with a variant of the baseline."""
    if variant is not None:
        return Stage.YARDSTICK
    return Stage.BASELINE if engine == BASELINE else Stage.OPTIMIZED


def source_sha256(stage: Stage, package: Path = PACKAGE, pipeline: Path = PIPELINE) -> str:
    """SHA-256 over the package's sources that a stage of dvc.yaml depends on; over all where there is no dvc.yaml."""
    if not pipeline.is_file():  # installed without the repository
        return _sha256(package, [package])
    listed = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"][stage]["deps"]
    prefix = f"src/{PACKAGE.name}/"
    return _sha256(package, [package / name.removeprefix(prefix) for name in listed if name.startswith(prefix)])


def package_sha256() -> str:
    """SHA-256 over all sources, by which a driver and its workers know that they are of one version."""
    return _sha256(PACKAGE, [PACKAGE])


def _sha256(package: Path, roots: Iterable[Path]) -> str:
    files = {path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])}
    total = hashlib.sha256()
    for path in sorted(path for path in files if path.suffix in SUFFIXES and path.is_file()):
        content = path.read_bytes()
        total.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
