"""A user's mistakes: exit code 2, one sentence on stderr, and nothing half-written left behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml

from tests.checkpoints.folders import write_folder
from whisper_speedup import cli
from whisper_speedup.cli import main
from whisper_speedup.disk.lock import only_one

ROOT = Path(__file__).parents[1]


class Project:
    """A working directory with params.yaml, one profile and two samples."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def edit(self, section: str, **changes: Any) -> None:
        """Change keys of a section of the profile, or with `source` replace the section."""
        path = self.folder / "profiles" / "bundled.yaml"
        content = yaml.safe_load(path.read_text())
        content[section] = changes if "source" in changes else {**content.get(section, {}), **changes}
        path.write_text(yaml.safe_dump(content))

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def refused(self, *arguments: str) -> str:
        """The sentence that a stage ends with, once the files are as they were."""
        before = self.files()
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        out, err = self.capsys.readouterr()
        assert stopped.value.code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.endswith(".\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert self.files() == before
        return err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("# What to run.\nprofile: bundled\nengines:\n  - fused\n")
    shutil.copy(ROOT / "profiles" / "bundled.yaml", tmp_path / "profiles")
    shutil.copy(ROOT / "profiles" / "dummy.yaml", tmp_path / "profiles")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def test_unknown_key(project: Project) -> None:
    project.edit("generation", beams=5)
    assert "unknown key generation.beams" in project.refused("data")


def test_value_out_of_range(project: Project) -> None:
    project.edit("generation", num_beams=0)
    sentence = project.refused("data")
    assert "generation.num_beams is 0" in sentence
    assert "profiles/bundled.yaml" in sentence


@pytest.mark.parametrize("stage", ["environment", "data", "model", "compare", "decode --engine fused"])
def test_unknown_profile(project: Project, stage: str) -> None:
    sentence = project.refused(*stage.split(), "--profile", "bundeld")
    assert "bundled, dummy" in sentence


def test_unknown_profile_to_put_in_force(project: Project) -> None:
    assert "'papr'" in project.refused("profile", "papr")


def test_unknown_engine_in_params(project: Project) -> None:
    Path("params.yaml").write_text("profile: bundled\nengines: [fsued]\n")
    assert "'fsued'" in project.refused("compare")


def test_unknown_engine_to_decode_with(project: Project) -> None:
    assert "there is no engine 'fsued'" in project.refused("decode", "--engine", "fsued")


def test_decoding_before_the_data_is_there(project: Project) -> None:
    assert "manifest.jsonl does not exist" in project.refused("decode", "--engine", "fused")


def test_missing_folder(project: Project) -> None:
    project.edit("data", source="folder", path="nowhere", limit=None, variations=None)
    assert "nowhere does not exist" in project.refused("data")


def test_empty_folder(project: Project) -> None:
    Path("mine").mkdir()
    project.edit("data", source="folder", path="mine", limit=None, variations=None)
    assert "mine holds no audio" in project.refused("data")


def test_transcript_file_with_an_unknown_clip(project: Project) -> None:
    Path("mine.csv").write_text("audio,text\nsamples/cards-001.flac,ten of clubs\ngone.flac,nothing\n")
    project.edit("data", source="folder", path="mine.csv", limit=None, variations=None)
    sentence = project.refused("data")
    assert "line 3" in sentence
    assert "'gone.flac'" in sentence


def test_weights_with_the_wrong_hash(project: Project) -> None:
    write_folder(Path("mine"))
    project.edit("model", source="local", path="mine")
    project.edit("data", source="samples", clips=["cards-001"], variations=None)
    main(["data"])
    main(["model"])
    weights = Path("mine/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for engine in ("huggingface", "fused"):
        sentence = project.refused("decode", "--engine", engine)
        assert "mine/model.safetensors has the SHA-256" in sentence
    assert not Path("build/bundled/runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("stage", ["environment"])
def test_cuda_without_a_gpu(project: Project, stage: str) -> None:
    project.edit("measure", device="cuda")
    assert "measure.device is cuda" in project.refused(stage)


@pytest.mark.parametrize(("stage", "question"), [("model", "model_info"), ("data", "dataset_info")])
def test_hub_unreachable(project: Project, monkeypatch: pytest.MonkeyPatch, stage: str, question: str) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise httpx.ConnectError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(f"huggingface_hub.HfApi.{question}", fail)
    sentence = project.refused(stage, "--profile", "dummy")
    assert "Temporary failure in name resolution" in sentence
    assert "offline, run PROFILE=bundled" in sentence
    assert "HF_HUB_OFFLINE=1" in sentence


@pytest.mark.parametrize("content", [b"profile: [bundled\n", b"\xff\xfe", b"", b"just words\n", b"profile: ../x\n"])
def test_damaged_params(project: Project, content: bytes) -> None:
    Path("params.yaml").write_bytes(content)
    for arguments in (["data"], ["profile", "dummy"]):
        assert "params.yaml" in project.refused(*arguments)


def test_missing_params(project: Project) -> None:
    Path("params.yaml").unlink()
    assert "params.yaml does not exist" in project.refused("data")


def test_a_profile_that_is_not_yaml(project: Project) -> None:
    Path("profiles/bundled.yaml").write_text("data: {\n")
    assert "profiles/bundled.yaml is not valid YAML" in project.refused("model")


def test_nothing_to_report(project: Project) -> None:
    assert "holds no results to show" in project.refused("report")


def test_profile_writes_only_its_line(project: Project) -> None:
    before = project.files()
    main(["profile", "dummy"])
    assert Path("params.yaml").read_text() == "# What to run.\nprofile: dummy\nengines:\n  - fused\n"
    main(["profile", "bundled"])
    assert project.files() == before


def ended(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and stderr of a stage."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["report"])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped\n"),
        (KeyboardInterrupt("2 of 4 utterances are kept in x."), 130, "stopped: 2 of 4 utterances are kept in x.\n"),
        (
            torch.AcceleratorError("CUDA error: out of memory\nSearch for it"), 2,
            "error: the GPU's memory is full: end other programs on the GPU (nvidia-smi lists them), or choose a"
            " smaller model or fewer beams.\n",
        ),
        (
            OSError(28, "No space left on device", "reports/x"), 2,
            "error: the disk is full (reports/x cannot be written): free some space, then run again.\n",
        ),
        (
            MemoryError(), 2,
            "error: this machine's memory is full: end other programs, or choose a smaller model or fewer beams.\n",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_ends_a_stage(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(parsed: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_report", fail)
    assert ended(project.capsys) == (code, said)


def test_a_bug_keeps_its_traceback(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(parsed: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(cli, "_report", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        main(["report"])


def test_sigterm_ends_a_stage_as_ctrl_c_does(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "_report", lambda parsed: signal.raise_signal(signal.SIGTERM))
    assert ended(project.capsys) == (143, "stopped\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_module_exits_with_two_and_no_traceback(project: Project) -> None:
    """The same through a process of its own, as dvc starts it."""
    ended = subprocess.run(
        [sys.executable, "-m", "whisper_speedup", "data", "--profile", "none"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: there is no profile 'none'")
    assert ended.stderr.count("\n") == 1


SIGNALS = """
import signal, sys, time
from whisper_speedup import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored

def stage(parsed):
    try:
        signal.raise_signal(getattr(signal, sys.argv[1]))
    finally:
        print("tidying", flush=True)
        if sys.argv[2] != "none":
            signal.raise_signal(getattr(signal, sys.argv[2]))
            print("unreachable", flush=True)

cli._report = stage
cli.main(["report"])
"""


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        ("SIGINT", "none", 130, "stopped\n"), ("SIGTERM", "none", 143, "stopped\n"),
        ("SIGINT", "SIGINT", 130, "ended at once\n"), ("SIGINT", "SIGTERM", 143, "ended at once\n"),
        ("SIGTERM", "SIGTERM", 143, "ended at once\n"),
    ],
)  # fmt: skip
def test_a_second_signal_ends_at_once(first: str, second: str, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALS, first, second], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "tidying\n", said)


@pytest.mark.parametrize("stage", ["environment", "data", "model", "compare", "report"])
def test_two_of_a_stage_at_once(project: Project, stage: str) -> None:
    with only_one(Path(f"build/bundled/.{stage}.lock"), ""):
        assert f"is running the stage {stage} of profile bundled already: wait" in project.refused(stage)
    assert not list(Path("build").rglob("*.lock"))


def test_a_name_that_is_a_path(project: Project) -> None:
    assert "'../x' is no name of a profile" in project.refused("report", "--profile", "../x")


def test_profile_without_a_name_checks_what_is_in_force(project: Project) -> None:
    before = project.files()
    main(["profile"])
    assert project.files() == before
    Path("params.yaml").write_text("profile: 'x; rm -rf ~'\nengines: [fused]\n")
    assert "params.yaml: profile is 'x; rm -rf ~'" in project.refused("profile")
