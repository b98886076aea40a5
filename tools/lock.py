"""Write the locks from pyproject.toml: `lock.py UV`, or `make lock`.

    requirements-build.lock       setuptools, which builds what comes as source, and this package
    requirements.lock             every package but torch and Triton
    requirements-torch-cuda.lock  torch, Triton and CUDA's libraries from PyPI
    requirements-torch-cpu.lock   torch's CPU build, and the Triton whose interpreter the tests use
    requirements-kernl.txt        genuine Kernl's environment, its pins as they are

uv names the SHA-256 of every file of a version, and resolves for each Python and processor of TARGETS; the locks are
written when all of them give the same versions. Versions stay as they are where pyproject.toml allows: delete a line to
let one move. The CPU build is not on PyPI: its hashes come from PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, beside those
already there.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "setuptools"
CPU_TRITON = "3.6.0"  # the oldest that the kernels take
TARGETS = [(python, f"{machine}-manylinux_2_28") for python in ("3.11", "3.12") for machine in ("x86_64", "aarch64")]
# What torch alone brings: CUDA's libraries (nvidia-ml-py reads the driver, and is ours), their bindings, Triton.
OF_TORCH = re.compile(r"(torch|triton|cuda-.*|nvidia-(?!ml-py).*)")
HEADS = {
    "requirements-build.lock": "What builds sdists and this package, installed first.",
    "requirements.lock": "Every package but torch and Triton, which tools/install_torch.py brings.",
    "requirements-torch-cuda.lock": "torch's CUDA build from PyPI, and what it brings.",
    "requirements-torch-cpu.lock": "torch's CPU build, from torch's own index or wheels; Triton for its interpreter.",
}
HOW = "Installed with pip --require-hashes --no-deps; written by `make lock`."


def main(uv: str) -> int:
    """Write all locks. Ends with uv's own words and code where it finds no resolution."""
    extras = [part for extra in ("bundled", "gpu", "ray", "dev") for part in ("--extra", extra)]
    old = "".join(path.read_text() for path in sorted(ROOT.glob("requirements*.lock")) if "cpu" not in path.name)
    wanted = "".join(f"{name}=={number}\n" for name, number in pins(old).items())
    found = {}
    for python, platform in TARGETS:
        asked = ["pyproject.toml", *extras, "--python-version", python, "--python-platform", platform]
        found[python, platform] = resolve(uv, asked, wanted)
    everything = found[TARGETS[0]]
    for target, other in found.items():
        if differing := [name for name in everything | other if everything.get(name) != other.get(name)]:
            print(
                f"error: {', '.join(differing)} for Python {target[0]} on {target[1]}: the locks are for all.",
                file=sys.stderr,
            )
            return 2
    torch = {name: block for name, block in everything.items() if OF_TORCH.fullmatch(name)}
    rest = {name: block for name, block in everything.items() if name not in torch}
    write("requirements-build.lock", {BUILD: rest.pop(BUILD)})
    write("requirements.lock", rest)
    write("requirements-torch-cuda.lock", torch)
    number = pins(torch["torch"])["torch"]
    write("requirements-torch-cpu.lock", cpu(uv, f"{number}+cpu"))
    kernl(uv)
    return 0


def resolve(uv: str, arguments: list[str], preferred: str = "", options: tuple[str, ...] = ()) -> dict[str, str]:
    """uv pip compile: each package's line and its hashes, by name. `preferred`: pins to keep where that is possible."""
    output = ROOT / "build" / "lock.txt"
    output.parent.mkdir(exist_ok=True)
    output.write_text(preferred)
    command = [
        uv, "pip", "compile", *arguments, *options, "--generate-hashes", "--no-annotate", "--no-header", "--quiet",
        "--output-file", str(output),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return blocks(output.read_text())


def cpu(uv: str, number: str) -> dict[str, str]:
    """torch's CPU build and its Triton. Hashes of files that this machine's indexes do not offer stay."""
    path = ROOT / "requirements-torch-cpu.lock"
    before = blocks(path.read_text()).get("torch", "") if path.exists() else ""
    options = [part for link in os.environ.get("PIP_FIND_LINKS", "").split() for part in ("--find-links", link)]
    for index in os.environ.get("PIP_EXTRA_INDEX_URL", "").split():
        options += ["--extra-index-url", index]
    source = ROOT / "build" / "cpu.in"
    found = {}
    if options:
        source.write_text(f"torch=={number}\n")
        found = resolve(uv, [str(source), "--no-deps", "--python-version", "3.11"], options=tuple(options))
    hashes = {*re.findall(r"sha256:[0-9a-f]{64}", found.get("torch", ""))}
    if pins(before).get("torch") == number:
        hashes |= {*re.findall(r"sha256:[0-9a-f]{64}", before)}
    if not hashes:
        sys.exit(f"error: no index here offers torch {number}: set PIP_EXTRA_INDEX_URL to torch's own CPU index.")
    source.write_text(f"triton=={CPU_TRITON}\n")
    triton = resolve(uv, [str(source), "--no-deps", "--python-version", "3.11"])
    lines = [f"torch=={number}", *(f"    --hash={one}" for one in sorted(hashes))]
    return {"torch": " \\\n".join(lines) + "\n", **triton}


def kernl(uv: str) -> None:
    """The same pins with the hashes of their files."""
    path = ROOT / "requirements-kernl.txt"
    head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    source = ROOT / "build" / "kernl.in"
    source.parent.mkdir(exist_ok=True)
    source.write_text("".join(f"{name}=={number}\n" for name, number in pins(path.read_text()).items()))
    options = ("--no-deps", "--python-version", "3.10", "--python-platform", "x86_64-manylinux_2_28")
    path.write_text(head + "".join(resolve(uv, [str(source)], options=options).values()))


def blocks(text: str) -> dict[str, str]:
    """A requirements file's entries, each with its hashes and its newline, by name."""
    return {part.split("==")[0]: part for part in re.findall(r"(?m)^[A-Za-z0-9].*(?:\n[ ]+--hash.*)*\n", text)}


def pins(text: str) -> dict[str, str]:
    """Name to version."""
    return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", text))


def write(name: str, content: dict[str, str]) -> None:
    (ROOT / name).write_text(f"# {HEADS[name]}\n# {HOW}\n" + "".join(content.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
