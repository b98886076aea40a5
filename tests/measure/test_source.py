"""Which of our files make a run another run."""

from pathlib import Path

import pytest

from whisper_speedup.measure.source import source_sha256


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in (
        "benchmark.py", "cli.py", "compare/wer.py", "engines/create.py", "engines/fused.py", "engines/huggingface.py",
        "fused/launch/gpu.json", "kernels/embed.py", "report/page/script.js", "report/view.py", "prompt.py",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "engines"),
    [
        ("benchmark.py", {"huggingface", "fused"}), ("prompt.py", {"huggingface", "fused"}),
        ("engines/huggingface.py", {"huggingface", "fused"}), ("engines/fused.py", {"fused"}),
        ("kernels/embed.py", {"fused"}), ("fused/launch/gpu.json", {"fused"}), ("kernels/new.py", {"fused"}),
        ("report/view.py", set()), ("compare/wer.py", set()), ("cli.py", set()), ("report/page/script.js", set()),
    ],
)  # fmt: skip
def test_a_changed_file_changes_what_it_can_change(package: Path, name: str, engines: set[str]) -> None:
    before = {engine: source_sha256(engine, package) for engine in ("huggingface", "fused")}
    (package / name).write_text("x = 2\n")
    assert {engine for engine, found in before.items() if source_sha256(engine, package) != found} == engines


def test_names_and_contents_cannot_be_mixed_up(package: Path) -> None:
    before = source_sha256("fused", package)
    (package / "prompt.py").rename(package / "prompts.py")
    assert source_sha256("fused", package) != before


def test_our_own() -> None:
    assert len({source_sha256("huggingface"), source_sha256("fused"), source_sha256("kernl")}) == 2
    assert source_sha256("fused") == source_sha256("fused")
