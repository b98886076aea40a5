"""Genuine Kernl's engine with the real worker in a process of its own, a stand-in for its environment and package."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.kernl_stand_in import decoder_calls, program, stand_in
from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.disk import progress
from whisper_speedup.engines import kernl_upstream
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace
from whisper_speedup.engines.kernl_upstream import KernlUpstream, KernlUpstreamParams
from whisper_speedup.engines.protocol import Elsewhere
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.params.profile import GenerationParams

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
GENERATION = GenerationParams(num_beams=3, max_length=12)
BASELINE = BaselineParams()


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine run where CI runs; Kernl itself would refuse, its stand-in does not."""
    monkeypatch.setattr(kernl_upstream, "check_device", lambda device: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Whisper with two languages: a prompt of three tokens."""
    whisper = tiny_whisper(2)
    settings = {
        "is_multilingual": True, "lang_to_id": {"<|en|>": 10, "<|de|>": 11}, "no_timestamps_token_id": 76,
        "task_to_id": {"transcribe": 12, "translate": 13},
    }  # fmt: skip
    for name, value in settings.items():
        setattr(whisper.generation_config, name, value)
    folder = tmp_path / "model"
    whisper.save_pretrained(folder)
    return folder


def engine(python: str | None) -> KernlUpstream:
    return KernlUpstream(KernlUpstreamParams(python=python))


def expected(model: Path, generation: GenerationParams) -> Any:
    baseline = HuggingFace(BASELINE)
    baseline.load(model, generation, CPU)
    return baseline.generate(tiny_features(2)), baseline.prompt


def test_the_worker_decodes_as_the_baseline_does(model: Path, tmp_path: Path) -> None:
    wanted, prompt = expected(model, GENERATION)
    kernl = engine(stand_in(tmp_path))
    kernl.load(model, GENERATION, CPU)
    try:
        assert kernl.prompt == prompt == [2, 10, 12, 76]
        kernl.warm_up(tiny_features(2))
        warm = len(decoder_calls(tmp_path))
        assert warm == GENERATION.max_length
        found = kernl.generate(tiny_features(2))
        assert (found.tokens, found.truncated) == (wanted.tokens, wanted.truncated)
        assert found.seconds is not None
        assert found.seconds > 0
        assert set(decoder_calls(tmp_path)[warm:]) == {"True"}
        assert isinstance(kernl, Elsewhere)
        process = kernl.process()
        assert kernl.worker is not None
        broken = {"do": "generate", "features": "nowhere.npy", "arguments": {}, "longest": False}
        with pytest.raises(
            UserError, match=r"^generate failed in Kernl's process \(FileNotFoundError: .*nowhere\.npy.*\.$"
        ):
            kernl.worker.ask(broken, 60)
        assert kernl.generate(tiny_features(2)).tokens == wanted.tokens
    finally:
        kernl.close()
    assert process["environment"]["torch"] == "2.1.2"
    assert process["environment"]["python"] == "3.10.13"
    assert process["memory"]["process_peak"] > 0
    assert process["memory"]["max_reserved"] is None


@pytest.mark.skipif(not (ROOT / ".venv-kernl" / "bin" / "python").exists(), reason="there is no .venv-kernl")
@pytest.mark.parametrize("beams", [1, 3])
def test_the_worker_decodes_so_with_the_versions_that_kernl_needs(model: Path, tmp_path: Path, beams: int) -> None:
    """Where `make kernl-env` has run. A length penalty of 0, for transformers 4.30 counts the prompt in lengths."""
    generation = GENERATION.model_copy(update={"num_beams": beams, "length_penalty": 0.0})
    wanted, _ = expected(model, generation)
    kernl = engine(stand_in(tmp_path, str(ROOT / ".venv-kernl" / "bin" / "python"), today=False))
    kernl.load(model, generation, CPU)
    try:
        kernl.warm_up(tiny_features(2))
        assert kernl.generate(tiny_features(2)).tokens == wanted.tokens
    finally:
        kernl.close()


def test_without_an_interpreter_it_says_how_to_make_one(model: Path) -> None:
    with pytest.raises(UserError, match=r"the profile names none: run `make kernl-env` and set measure\.kernl_upstr"):
        engine(None).load(model, GENERATION, CPU)


def test_an_interpreter_that_is_not_there_is_named(model: Path) -> None:
    with pytest.raises(UserError, match=r"python is 'nowhere/python', and no program is there: run `make kernl-env`"):
        engine("nowhere/python").load(model, GENERATION, CPU)


def test_a_cpu_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"needs an NVIDIA GPU of compute capability 8\.0"):
        engine(program(tmp_path / "python", "")).load(model, GENERATION, CPU)


def test_a_language_to_detect_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generation\.language is null"):
        engine(program(tmp_path / "python", "")).load(model, GENERATION.model_copy(update={"language": None}), CPU)


def test_other_versions_are_refused(model: Path, tmp_path: Path) -> None:
    kernl = engine(stand_in(tmp_path, torch="2.0.1"))
    with pytest.raises(UserError, match=r"^Kernl runs with torch 2\.1\.2 and here is 2\.0\.1: make its environ.*\.$"):
        kernl.load(model, GENERATION, CPU)
    assert kernl.worker is None


def test_this_interpreter_is_refused_as_it_is(model: Path, tmp_path: Path) -> None:
    """No stand-in: the worker looks at the tests' own environment."""
    run = "import runpy, sys; runpy.run_path(sys.argv[-1], run_name='__main__')"
    with pytest.raises(UserError, match=r"(needs Python 3\.10|has no kernl).*make kernl-env"):
        engine(program(tmp_path / "python", run)).load(model, GENERATION, CPU)


def test_pypis_kernl_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path)
    (tmp_path / "packages" / "kernl" / "model_optimization.py").unlink()
    package = tmp_path / "packages" / "kernl" / "__init__.py"
    package.write_text("raise SystemExit('somebody ran it')\n")
    with pytest.raises(UserError, match=r"^the kernl in this environment is PyPI's, an SSH client .*\.$"):
        engine(python).load(model, GENERATION, CPU)


def test_warming_up_shows_how_far_it_is(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0)
    kernl = engine(stand_in(tmp_path))
    kernl.load(model, GENERATION, CPU)
    kernl.warm_up(tiny_features(2))
    kernl.close()
    shown = [line.split(",")[0] for line in capsys.readouterr().err.splitlines() if "warming" in line]
    # transformers 4.30 decodes a prompt of 4 tokens in 4 steps, today's, which stands in for it, in one.
    assert shown == [f"warming Kernl up: {done} of 15 lengths" for done in range(1, 13)]


READY = "import json, sys\nprint(json.dumps({'ready': {'commit': None}}), flush=True)\nsys.stdin.readline()\n"
LOADED = READY + "print(json.dumps({'loaded': 'float32'}), flush=True)\nsys.stdin.readline()\n"


def test_a_worker_that_dies_while_it_decodes_ends_the_run(model: Path, tmp_path: Path) -> None:
    dies = LOADED + "print('CUDA error: an illegal memory access', file=sys.stderr)\nsys.exit(3)\n"
    kernl = engine(program(tmp_path / "python", dies))
    kernl.load(model, GENERATION, CPU)
    sentence = "^Kernl's process ended with exit code 3; its last words were 'CUDA error: an illegal memory access'[.]$"
    for _ in range(2):  # and it stays so
        with pytest.raises(EngineLost, match=sentence):
            kernl.generate(tiny_features(2))
    kernl.close()


def test_a_worker_that_dies_at_start(model: Path, tmp_path: Path) -> None:
    dies = "import sys\nprint('Traceback', file=sys.stderr)\nsys.exit('ImportError: libcudart')\n"
    with pytest.raises(EngineLost, match="ended with exit code 1; its last words were 'ImportError: libcudart'"):
        engine(program(tmp_path / "python", dies)).load(model, GENERATION, CPU)


@pytest.mark.parametrize("garbage", ["Segmentation fault", "[1, 2]", "{'ready'"])
def test_a_worker_that_speaks_garbage(model: Path, tmp_path: Path, garbage: str) -> None:
    kernl = engine(program(tmp_path / "python", f"print({garbage!r}, flush=True)\ninput()\n"))
    with pytest.raises(EngineLost, match="which is no JSON object, and was ended"):
        kernl.load(model, GENERATION, CPU)


def test_a_worker_that_hangs_at_start(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernl_upstream.LIMITS_S, "start", 0.5)
    kernl = engine(program(tmp_path / "python", "import signal\nsignal.pause()\n"))
    with pytest.raises(EngineLost, match=r"^Kernl's process gave no answer within 0 s and was ended\.$"):
        kernl.load(model, GENERATION, CPU)
