"""The worker's own rules, one by one: what it refuses, what it finds, how it speaks to transformers 4.30."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from whisper_speedup.engines import kernl_worker
from whisper_speedup.engines.kernl_upstream import WORKER

RIGHT: dict[str, Any] = {
    "python": "3.10.13", "torch": "2.1.2", "triton": "2.1.0", "transformers": "4.30.2", "numpy": "1.26.4",
    "kernl": "genuine", "commit": "91e2cd9", "cuda": "12.1", "capability": [8, 0],
}  # fmt: skip


def test_it_is_python_3_9_and_imports_nothing_of_ours() -> None:
    tree = ast.parse(WORKER.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or "."] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert "whisper_speedup" not in imported
    assert imported - sys.stdlib_module_names == {
        "torch",
        "triton",
        "transformers",
        "kernl",
        "numpy",
    }


@pytest.mark.parametrize("change", [{}, {"capability": [9, 0]}, {"numpy": "1.24.0"}], ids=str)
def test_the_right_environment_is_not_refused(change: dict[str, Any]) -> None:
    assert kernl_worker.refusal({**RIGHT, **change}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "3.9.18"}, "needs Python 3.10, and this interpreter is 3.9.18"),
        ({"python": "3.1.0"}, "needs Python 3.10, and this interpreter is 3.1.0"),
        ({"torch": "2.0.1"}, "torch 2.1.2 and here is 2.0.1"),
        ({"torch": None}, "torch 2.1.2 and here is None"),
        ({"triton": "2.0.0"}, "triton 2.1.0 and here is 2.0.0"),
        ({"transformers": "5.17.0"}, "transformers 4.30.2 and here is 5.17.0"),
        ({"numpy": "2.0.1"}, "numpy below 2 and here is 2.0.1"),
        ({"numpy": None}, "numpy below 2 and here is None"),
        ({"kernl": None}, "has no kernl"),
        ({"kernl": "other"}, "PyPI's, an SSH client and dataset manager that is no part of ELS-RD/kernl"),
        ({"commit": "0a434b2"}, "not commit 91e2cd9 as it was published (pip says 0a434b2)"),
        ({"commit": "91e2cd9, changed"}, "not commit 91e2cd9 as it was published (pip says 91e2cd9, changed)"),
        ({"commit": None}, "not commit 91e2cd9 as it was published: make"),
        ({"capability": None}, "needs an NVIDIA GPU and its torch finds none"),
        ({"capability": [7, 5]}, "8.0 (Ampere) or newer and this GPU has 7.5"),
    ],
    ids=str,
)
def test_anything_else_is_refused_with_a_sentence(change: dict[str, Any], words: str) -> None:
    sentence = kernl_worker.refusal({**RIGHT, **change})
    assert sentence is not None
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_what_is_installed_here_is_found_and_refused() -> None:
    found = kernl_worker.installed()
    assert found["torch"] == torch.__version__.split("+")[0]
    assert set(found) == set(RIGHT)
    assert kernl_worker.refusal(found) is not None


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """A package called kernl whose code must not run."""
    (folder / "kernl").mkdir()
    for module in modules:
        (folder / "kernl" / f"{module}.py").write_text("raise SystemExit('somebody ran it')\n")
    monkeypatch.syspath_prepend(str(folder))


def test_kernl_is_found_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, "__init__", "model_optimization")
    assert kernl_worker.find_kernl() == {"kernl": "genuine", "commit": None}
    metadata = tmp_path / "kernl-0.2.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kernl\nVersion: 0.2.1\n")
    source = {"url": "https://example.org/kernl", "vcs_info": {"vcs": "git", "commit_id": RIGHT["commit"]}}
    (metadata / "direct_url.json").write_text(json.dumps(source))
    assert kernl_worker.find_kernl() == {"kernl": "genuine", "commit": "91e2cd9, changed"}
    source["vcs_info"]["commit_id"] = "0a434b2" + 33 * "0"
    (metadata / "direct_url.json").write_text(json.dumps(source))
    assert kernl_worker.find_kernl() == {"kernl": "genuine", "commit": "0a434b2"}


def test_kernl_is_known_by_its_files_whatever_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, "__init__", "model_optimization")
    monkeypatch.setattr(kernl_worker, "COMMIT_SHA256", kernl_worker.kernl_sha256(str(tmp_path / "kernl")))
    assert kernl_worker.find_kernl() == {"kernl": "genuine", "commit": "91e2cd9"}
    (tmp_path / "kernl" / "__pycache__").mkdir()
    (tmp_path / "kernl" / "__pycache__" / "x.pyc").write_text("")
    assert kernl_worker.find_kernl()["commit"] == "91e2cd9"
    (tmp_path / "kernl" / "model_optimization.py").write_text("raise SystemExit('somebody changed it')\n")
    assert kernl_worker.find_kernl()["commit"] is None


def test_our_own_kernl_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody runs the worker by its path, without -I."""
    monkeypatch.syspath_prepend(str(WORKER.parent))
    assert kernl_worker.find_kernl() == {"kernl": None, "commit": None}


def test_pypis_kernl_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, "__init__", "banner", "version")
    assert kernl_worker.find_kernl() == {"kernl": "other", "commit": None}


def test_lengths_count_the_prompt() -> None:
    asked = {"max_length": 50, "min_length": 1, "num_beams": 5}
    assert kernl_worker.whole_lengths(asked, 4, 448) == {**asked, "max_length": 54}
    assert kernl_worker.whole_lengths({**asked, "max_length": 447}, 4, 448)["max_length"] == 448
    assert asked["max_length"] == 50


@pytest.mark.parametrize("eos", [9, [8, 9]])
def test_a_hypothesis_is_what_lies_between_prompt_and_end_of_text(eos: int | list[int]) -> None:
    assert kernl_worker.hypothesis([9, 2, 5, 6, 9, 9], 2, eos) == [5, 6]  # a prompt may hold the end-of-text id
    assert kernl_worker.hypothesis([9, 2, 5, 6], 2, eos) == [5, 6]
    assert kernl_worker.hypothesis([9, 2, 9], 2, eos) == []


def test_reordering_leaves_cross_attention_where_it_is() -> None:
    layer = tuple(torch.arange(3.0).view(3, 1, 1, 1) + 10 * number for number in range(4))
    beams = torch.tensor([2, 2, 0])
    ((keys, values, cross_keys, cross_values),) = kernl_worker.reorder_self_attention_only((layer,), beams)
    assert keys.flatten().tolist() == [2, 2, 0]
    assert values.flatten().tolist() == [12, 12, 10]
    assert cross_keys is layer[2]
    assert cross_values is layer[3]
