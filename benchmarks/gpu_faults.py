"""Provoke what can go wrong on a GPU, for real, through the command line: one sentence, exit code 2, rows kept.

    python benchmarks/gpu_faults.py
    python benchmarks/gpu_faults.py --only "old GPU" "GPU full in the middle"

In a temporary folder, with six tones, whisper-tiny.en's shape and random weights. Each fault is a process of its own
that runs the decode stage, with the fault put in by replacing as little as there is: a GPU's capability is faked, its
memory filled, its context broken by an index out of range, an encoder weight made NaN. After a fault in the middle the
stage runs again with nothing broken, and must go on from the rows that were kept. One line each; exit code 1 when any
did not end as it should. Some runs must succeed: the ways out that the sentences name. Without a GPU only the faults
that need none are run, and the others said to be left out.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import whisper_speedup
from whisper_speedup.disk.files import read_json, read_jsonl

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 6
AFTER = 2  # utterances that are decoded before a fault in the middle


@dataclass(frozen=True)
class Fault:
    """One run: what is broken in it (`breaks`, run before the stage), and how it must end.

    `measure` changes the profile's section. `rows`: how many rows the partial file must hold, None for no such file.
    `code` 0: it must get through, with `failed` rows that carry an error. `says` must be in the sentence.
    """

    name: str
    breaks: str | None
    says: str = ""
    engine: str = "fused"
    model: str = "good"
    measure: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    code: int = 2
    rows: int | None = None
    failed: int = 0
    gpu: bool = True


CHAIN = {"fused": {"precision": "auto", "tune": "never", "layers": "triton"}}
ONE_LAUNCH = {"fused": {"precision": "auto", "tune": "never", "layers": "persistent"}}  # Hopper and newer
TUNED = {"fused": {"precision": "auto", "tune": "auto", "layers": "triton"}}
PLAIN = {"fused": {"precision": "float32", "tune": "never", "layers": "auto"}}
CUDA = {"device": "cuda"}
AUTO = {"device": "auto"}
FAULTS = [
    Fault("no GPU", None, "measure.device is cuda", environment={"CUDA_VISIBLE_DEVICES": ""}, gpu=False),
    Fault("no GPU, baseline", None, "measure.device is cuda", "huggingface", environment={"CUDA_VISIBLE_DEVICES": ""},
          gpu=False),
    Fault("old GPU", "old_gpu", "compute capability 7.5"),
    Fault("old GPU, plain path", "old_gpu", measure=PLAIN, code=0),
    Fault("no Triton", "no_triton", "need Triton"),
    Fault("no Triton, plain path", "no_triton", measure=PLAIN, code=0),
    Fault("no C compiler", None, "C compiler", environment={"PATH": "/nowhere", "CC": "", "TRITON_CACHE_DIR": "cold"}),
    Fault("GPU full", "full_gpu", "needs at least"),
    Fault("GPU full, plain path", "full_gpu", "needs at least", measure=PLAIN),
    Fault("GPU full, baseline", "full_gpu", "needs at least", "huggingface"),
    Fault("GPU full while loading", "full_while_loading", "memory is full"),
    Fault("GPU full in the middle", "full_in_the_middle", "memory is full", "huggingface", rows=AFTER),
    Fault("GPU full in the middle, plain path", "full_in_the_middle", "memory is full", measure=PLAIN, rows=AFTER),
    Fault("CUDA error in the middle", "cuda_error_in_the_middle", "stopped working", rows=AFTER),
    Fault("CUDA error in the middle, baseline", "cuda_error_in_the_middle", "stopped working", "huggingface",
          rows=AFTER),
    Fault("NaN for every clip", None, "not a number for any of the first 6 clips", model="poisoned", rows=CLIPS),
    Fault("NaN for every clip, plain path", None, "the weights are damaged", model="poisoned",
          measure={**PLAIN, **AUTO}, rows=CLIPS, gpu=False),
    Fault("NaN for every clip, baseline", None, "not a number for any of the first 6 clips", "huggingface", "poisoned",
          AUTO, rows=CLIPS, gpu=False),
    Fault("NaN for one clip", "nan_for_one_clip", code=0, failed=1),
    Fault("NaN for one clip, plain path", "nan_for_one_clip", measure={**PLAIN, **AUTO}, code=0, failed=1, gpu=False),
    Fault("NaN for one clip, baseline", "nan_for_one_clip", engine="huggingface", measure=AUTO, code=0, failed=1,
          gpu=False),
    Fault("a launch configuration that does not build", "bad_launch", code=0, measure=CHAIN),
    Fault("NVRTC refuses the one launch", "no_nvrtc", code=0),
    Fault("NVRTC refuses the one launch, which is asked for", "no_nvrtc", "say auto or triton", measure=ONE_LAUNCH),
    Fault("the one launch gives up", "no_patience", "gave up waiting", measure=ONE_LAUNCH),
    Fault("an unknown GPU is tuned", "unknown_gpu", code=0, measure=TUNED),
    Fault("SIGTERM in the middle", "sigterm_in_the_middle", "stopped", measure=AUTO, code=143, rows=AFTER, gpu=False),
    Fault("Ctrl-C in the middle", "sigint_in_the_middle", "stopped", measure=AUTO, code=130, rows=AFTER, gpu=False),
]  # fmt: skip


def main() -> int:
    """Prepare, run each fault, print; 1 when one did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], metavar="FAULT")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(next(fault for fault in FAULTS if fault.name == arguments.child))
    import torch

    # Not is_available(): nothing of the GPU's memory may be held here, and no context made.
    here = torch.cuda.device_count() > 0
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for fault in FAULTS:
            if arguments.only and fault.name not in arguments.only:
                continue
            if fault.gpu and not here:
                print(f"left out  {fault.name}: needs a GPU", flush=True)
                continue
            why, line = run(fault, folder)
            bad += why is not None
            print(f"{'ok' if why is None else 'BAD'}  {fault.name}: {line}{f' ({why})' if why else ''}", flush=True)
    return 1 if bad else 0


def prepare(folder: Path) -> None:
    """The data and model stages' outputs in `folder`, as every fault starts from them."""
    import numpy as np
    import soundfile
    from safetensors.torch import load_file, save_file

    from whisper_speedup.audio import manifest
    from whisper_speedup.checkpoints.prepare import prepare as prepare_model
    from whisper_speedup.disk.files import write_json
    from whisper_speedup.params.sources import Folder, Local, Synthetic

    home = Path.cwd()
    os.chdir(folder)
    try:
        Path("tones").mkdir()
        for number in range(CLIPS):
            tone = 0.1 * np.sin(2 * np.pi * (300 + 100 * number) * np.arange(16000 * (1 + number)) / 16000)
            soundfile.write(f"tones/{number}.wav", tone, 16000)
        data = Folder(source="folder", path="tones")
        good = prepare_model(Synthetic(source="synthetic", size="tiny.en", seed=0))
        shutil.copytree(good["path"], "poisoned")
        weights = load_file("poisoned/model.safetensors")
        weights["model.encoder.layers.1.fc1.weight"][3, 3] = float("nan")
        save_file(weights, "poisoned/model.safetensors", metadata={"format": "pt"})
        Path("poisoned/recipe.json").unlink(missing_ok=True)
        poisoned = prepare_model(Local(source="local", path="poisoned"))
        del weights
        for name, model in (("good", good), ("poisoned", poisoned)):
            manifest.prepare(data, Path("build", name, "data"))
            write_json(Path("build", name, "model.json"), model)
    finally:
        os.chdir(home)


def run(fault: Fault, folder: Path) -> tuple[str | None, str]:
    """Why the run did not end as it should (None: it did), and the line to print of it."""
    build = folder / "build" / fault.model
    for old in (build / "partial", build / "runs", folder / "cache", folder / "cold"):
        shutil.rmtree(old, ignore_errors=True)
    profile = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text(encoding="utf-8"))
    profile["generation"] = {"max_length": 12}
    profile["measure"] = {"fused": {"tune": "never"}, **CUDA, **fault.measure}
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / f"{fault.model}.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    paths = [str(Path(whisper_speedup.__file__).parents[1]), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    environment = {
        "TRITON_CACHE_DIR": str(folder / "triton"), **os.environ, "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths)),
        **fault.environment,
    }  # fmt: skip
    if not environment.get("CC", "set"):
        del environment["CC"]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", fault.name]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    partial = build / "partial" / f"{fault.engine}.jsonl"
    kept = sum("id" in entry for entry in read_jsonl(partial)) if partial.is_file() else None
    results = build / "runs" / fault.engine / "results.jsonl"
    rows = read_jsonl(results) if results.is_file() else []
    why = problem(fault, ended.returncode, ended.stderr, kept, [row["error"] for row in rows])
    if why is None and fault.rows == AFTER:
        why = not_continued(fault, folder, environment, build)
    if why:
        print(ended.stderr[-3000:], file=sys.stderr, flush=True)
    told = sentences(ended.stderr)
    said = told[0] if told else f"{len(rows)} rows, {sum(row['error'] is not None for row in rows)} failed"
    return why, f"{said} [exit code {ended.returncode}, {kept or 0} rows kept]"


def not_continued(fault: Fault, folder: Path, environment: dict[str, str], build: Path) -> str | None:
    """What is wrong with the run that follows, with nothing broken: it must go on from the rows that are kept."""
    command = [sys.executable, "-m", "whisper_speedup", "decode", "--engine", fault.engine, "--profile", fault.model]
    before = [row for row in read_jsonl(build / "partial" / f"{fault.engine}.jsonl") if "id" in row]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        print(ended.stderr[-3000:], file=sys.stderr, flush=True)
        return f"the run after it ended with {ended.returncode}"
    rows = read_jsonl(build / "runs" / fault.engine / "results.jsonl")
    sessions = read_json(build / "runs" / fault.engine / "run.json")["resumed_from"] or []
    if len(rows) != CLIPS or [row for row in rows if row in before] != before:
        return "the run after it lost or repeated a row"
    return None if [session["rows"] for session in sessions] == [AFTER] else f"resumed_from is {sessions}"


def sentences(stderr: str) -> list[str]:
    """The lines with which a stage says why it ended."""
    return [line for line in stderr.splitlines() if re.match(r"(error|stopped): ", line)]


def problem(fault: Fault, code: int, stderr: str, kept: int | None, errors: list[str | None]) -> str | None:
    """What is wrong with the way a run ended."""
    told = sentences(stderr)
    for word in ("Traceback", "terminate called"):
        if word in stderr:
            return f"{word} on stderr"
    if code != fault.code:
        return f"exit code {code}, not {fault.code}"
    if kept != fault.rows:
        return f"{kept} rows kept, not {fault.rows}"
    if code == 0:
        failed = sum(error is not None for error in errors)
        if told or len(errors) != CLIPS or failed != fault.failed:
            return f"{len(errors)} rows with {failed} failed, not {CLIPS} with {fault.failed}"
        return None
    if len(told) != 1 or not told[0].endswith(".") or fault.says not in told[0]:
        return f"{len(told)} sentences, or not about {fault.says!r}"
    if kept is not None and f"{kept} of {CLIPS} utterances are kept in " not in told[0]:
        return "the sentence does not say what is kept"
    return None


def child(fault: Fault) -> int:
    """Break what is to be broken, then run the stage as `python -m whisper_speedup decode` does."""
    from whisper_speedup.cli import main as stage

    if fault.breaks:
        BREAKS[fault.breaks](fault)
    stage(["decode", "--engine", fault.engine, "--profile", fault.model])
    if fault.name == "an unknown GPU is tuned":
        from whisper_speedup.fused.launch import load_launch_config

        launch = load_launch_config("NVIDIA Unknown", 384)
        assert launch.source == "user cache", launch.source
    return 0


def old_gpu(fault: Fault) -> None:
    import torch

    torch.cuda.get_device_capability = lambda device=None: (7, 5)


def no_triton(fault: Fault) -> None:
    sys.modules["triton"] = None  # type: ignore[assignment]


def fill(leave_bytes: int) -> None:
    """Take the GPU's memory but for `leave_bytes`, for as long as the process lives."""
    import torch

    torch.cuda.empty_cache()
    size = torch.cuda.mem_get_info()[0] - leave_bytes
    while size >= 2**20 and torch.cuda.mem_get_info()[0] > leave_bytes:
        try:
            HELD.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2


HELD: list[Any] = []


def full_gpu(fault: Fault) -> None:
    fill(48 * 2**20)


def full_while_loading(fault: Fault) -> None:
    """The check is passed, for the memory is gone only after it."""
    from whisper_speedup.engines import fused

    check = fused.check_memory

    def then_fill(engine: str, needed_bytes: int, device: Any) -> None:
        check(engine, needed_bytes, device)
        fill(16 * 2**20)

    fused.check_memory = then_fill


def in_the_middle(fault: Fault, action: Callable[[], None]) -> None:
    """Run `action` before the third utterance is decoded."""
    from whisper_speedup.engines.fused import Fused
    from whisper_speedup.engines.huggingface import HuggingFace

    engine: Any = Fused if fault.engine == "fused" else HuggingFace
    generate, calls = engine.generate, []

    def counting(self: Any, features: Any) -> Any:
        calls.append(1)
        if len(calls) == AFTER + 1:
            action()
        return generate(self, features)

    engine.generate = counting


def full_in_the_middle(fault: Fault) -> None:
    in_the_middle(fault, lambda: fill(0))


def cuda_error_in_the_middle(fault: Fault) -> None:
    def out_of_range() -> None:
        import torch

        torch.zeros(4, device="cuda")[torch.tensor([10**6], device="cuda")]

    in_the_middle(fault, out_of_range)


def sigterm_in_the_middle(fault: Fault) -> None:
    import signal

    in_the_middle(fault, lambda: signal.raise_signal(signal.SIGTERM))


def sigint_in_the_middle(fault: Fault) -> None:
    import signal

    in_the_middle(fault, lambda: signal.raise_signal(signal.SIGINT))


def nan_for_one_clip(fault: Fault) -> None:
    """The third clip's features are NaN, as an overflow in the encoder's first product would leave them."""
    from whisper_speedup.run import benchmark

    log_mel = benchmark.log_mel

    def poisoned(audio: Any, extractor: Any) -> Any:
        features = log_mel(audio, extractor)
        return features * float("nan") if len(audio) == 16000 * 3 else features

    benchmark.log_mel = poisoned


def bad_launch(fault: Fault) -> None:
    """The user's cache holds a tile that needs far more shared memory than a program may have."""
    import torch

    from whisper_speedup.fused import launch_cache
    from whisper_speedup.fused.launch import LaunchConfig, Tile
    from whisper_speedup.fused.tuning import plain_config

    torch.cuda.get_device_name = lambda device=None: "NVIDIA Unknown"
    launch_cache.write("NVIDIA Unknown", 384, plain_config(LaunchConfig(fc1=Tile(128, 512, 8, 8))))


def no_nvrtc(fault: Fault) -> None:
    import torch

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Kernel compilation failed:\nno such instruction")

    torch.cuda._compile_kernel = refuse


def no_patience(fault: Fault) -> None:
    """Gives up at the first word that is not there yet."""
    from whisper_speedup.kernels import persistent_plan

    persistent_plan.PATIENCE = 1


def unknown_gpu(fault: Fault) -> None:
    import torch

    from whisper_speedup.fused import tuning

    tuning.BUDGET_S = 10
    torch.cuda.get_device_name = lambda device=None: "NVIDIA Unknown"


BREAKS: dict[str, Callable[[Fault], None]] = {
    action.__name__: action
    for action in (
        old_gpu, no_triton, full_gpu, full_while_loading, full_in_the_middle, cuda_error_in_the_middle,
        sigterm_in_the_middle, sigint_in_the_middle, nan_for_one_clip, bad_launch, unknown_gpu,
        no_nvrtc, no_patience,
    )
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
