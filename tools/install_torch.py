"""Install torch's CPU or CUDA build into this interpreter: `install_torch.py auto|cpu|cuda VERSION`.

PyPI's Linux build of torch brings CUDA and several gigabytes; where there is no GPU the small CPU build is tried first.
It comes from an index that offers it: torch's own (set PIP_EXTRA_INDEX_URL to it), or a local folder of wheels.
"""

import importlib.metadata
import shutil
import subprocess
import sys


def main(build: str, version: str) -> int:
    """0 when torch is there, 2 and a sentence when `build` is not a choice."""
    if build not in {"auto", "cpu", "cuda"}:
        print(f"error: TORCH is {build}: choose auto, cpu or cuda.", file=sys.stderr)
        return 2
    if build == "auto":
        build = "cuda" if has_gpu() else "cpu"
    here = installed()
    if build == "cpu" and here == f"{version}+cpu":
        return 0
    if build == "cuda" and here is not None and here.endswith("+cpu"):
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "torch"], check=False)
    # A CUDA build is asked for even where it is: pip then mends what the lock changed beneath it (Triton's version).
    if build == "cpu" and pip(f"torch=={version}+cpu", quiet=True) == 0:
        return 0
    if build == "cpu":
        print(f"the package index offers no torch=={version}+cpu, so its default build follows (on Linux, with CUDA)")
    return pip(f"torch=={version}")


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


def pip(requirement: str, quiet: bool = False) -> int:
    """pip install, and its exit code."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", requirement]
    return subprocess.run(command, stderr=subprocess.DEVNULL if quiet else None, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
