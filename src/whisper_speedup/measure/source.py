"""Which version of our own source made a run: one hash over the files that can change what an engine gives."""

import hashlib
from pathlib import Path

from whisper_speedup.params.profile import BASELINE

PACKAGE = Path(__file__).parents[1]
# What comes after decoding, or only leads to it.
NEVER = {"report", "compare", "cli.py", "__main__.py"}
# What the baseline does without, as in dvc.yaml: an edited kernel does not repeat it.
NOT_BASELINE = {"fused", "kernels", "optimize"}
BASELINE_ENGINES = {"__init__.py", "create.py", "huggingface.py", "precision.py", "protocol.py"}


def source_sha256(engine: str, package: Path = PACKAGE) -> str:
    """SHA-256 over the names and contents of the package's sources and .json files that `engine` may run."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if path.suffix not in {".py", ".json", ".cu", ".cuh"} or not path.is_file() or name.parts[0] in NEVER:
            continue
        if engine == BASELINE and (
            name.parts[0] in NOT_BASELINE or (name.parts[0] == "engines" and name.name not in BASELINE_ENGINES)
        ):
            continue
        content = path.read_bytes()
        total.update(f"{name.as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
