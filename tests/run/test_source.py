"""Which of our files make a run another run."""

from pathlib import Path

import pytest
import yaml

from whisper_speedup.run.source import PACKAGE, PIPELINE, Stage, package_sha256, source_sha256

STAGES = (Stage.BASELINE, Stage.YARDSTICK, Stage.OPTIMIZED)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in (
        "run/benchmark.py", "cli.py", "compare/wer.py", "engines/protocol.py", "engines/fused.py",
        "engines/huggingface.py", "fused/launch/gpu.json", "kernels/embed.py", "report/page/script.js",
        "report/view.py", "checkpoints/prompt.py",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("run/benchmark.py", set(STAGES)), ("checkpoints/prompt.py", set(STAGES)),
        ("engines/huggingface.py", set(STAGES)), ("engines/fused.py", {Stage.OPTIMIZED}),
        ("kernels/embed.py", {Stage.OPTIMIZED}), ("fused/launch/gpu.json", {Stage.OPTIMIZED}),
        ("kernels/new.py", {Stage.OPTIMIZED}), ("report/view.py", set()), ("compare/wer.py", set()), ("cli.py", set()),
        ("report/page/script.js", set()),
    ],
)  # fmt: skip
def test_a_changed_file_changes_what_it_can_change(package: Path, name: str, stages: set[str]) -> None:
    before = {stage: source_sha256(stage, package) for stage in STAGES}
    (package / name).write_text("x = 2\n")
    assert {stage for stage, found in before.items() if source_sha256(stage, package) != found} == stages


def test_names_and_contents_cannot_be_mixed_up(package: Path) -> None:
    before = source_sha256(Stage.OPTIMIZED, package)
    (package / "checkpoints/prompt.py").rename(package / "checkpoints/prompts.py")
    assert source_sha256(Stage.OPTIMIZED, package) != before


def test_without_the_repository_everything_counts(package: Path) -> None:
    before = source_sha256(Stage.BASELINE, package, package / "dvc.yaml")
    (package / "engines/fused.py").write_text("x = 2\n")
    assert source_sha256(Stage.BASELINE, package, package / "dvc.yaml") != before


def test_what_dvc_lists_is_there() -> None:
    assert list(yaml.safe_load(PIPELINE.read_text())["stages"]) == list(Stage)
    for stage in yaml.safe_load(PIPELINE.read_text())["stages"].values():
        for name in stage.get("deps", []):
            if name.startswith("src/"):
                assert (PIPELINE.parent / name).exists(), name
    assert len({package_sha256(), *(source_sha256(stage) for stage in (Stage.BASELINE, Stage.OPTIMIZED))}) == 3
    assert (PACKAGE / "run").is_dir()
