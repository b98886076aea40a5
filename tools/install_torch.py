"""Install torch's CPU or CUDA build, and the Triton that goes with it: `install_torch.py auto|cpu|cuda`.

requirements-torch-cpu.lock and requirements-torch-cuda.lock name the versions and each file's SHA-256, and pip takes no
other file. PyPI's Linux build of torch brings CUDA and several gigabytes; where there is no GPU the small CPU build is
tried first. It comes from an index that offers it: torch's own (set PIP_EXTRA_INDEX_URL to it), or a folder of wheels.
"""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = {build: Path(__file__).parents[1] / f"requirements-torch-{build}.lock" for build in ("cpu", "cuda")}
WRONG_HASH = "DO NOT MATCH THE HASHES"  # pip's own words


def main(build: str = "auto") -> int:
    """0 when torch is there, 2 and a sentence when `build` is not a choice or a file is not the locked one."""
    if build not in {"auto", "cpu", "cuda"}:
        print(f"error: TORCH is {build}: choose auto, cpu or cuda.", file=sys.stderr)
        return 2
    if build == "auto":
        build = "cuda" if has_gpu() else "cpu"
    here = installed()
    if build == "cuda" and here is not None and here.endswith("+cpu"):
        # pip takes 2.13.0+cpu for 2.13.0 and would leave it.
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "torch"], check=False)
    if build == "cpu":
        code, said = pip(LOCKS["cpu"], quiet=True)
        if code == 0:
            return 0
        if WRONG_HASH in said:
            print(
                "error: the index offers a CPU build of torch whose SHA-256 is not in requirements-torch-cpu.lock: take"
                " torch's own index or wheels, or run make lock if you trust that file.",
                file=sys.stderr,
            )
            return 2
        print("the package index offers no CPU build of this torch, so its default build follows (on Linux, with CUDA)")
    return pip(LOCKS["cuda"])[0]


def has_gpu() -> bool:
    """Whether NVIDIA's driver answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def installed() -> str | None:
    """The version of torch that is here, such as 2.13.0+cpu."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def pip(lock: Path, quiet: bool = False) -> tuple[int, str]:
    """pip install, its exit code, and where it was to be quiet what it said of its failure."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(lock)]
    done = subprocess.run(command, stderr=subprocess.PIPE if quiet else None, text=True, check=False)
    return done.returncode, done.stderr or ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
