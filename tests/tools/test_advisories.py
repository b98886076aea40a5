"""What PyPI says of the locks: found, accepted, unknown, and no answer."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.tool import load

ROOT = Path(__file__).parents[2]
HOLE = {"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "summary": "Reads anything.", "details": "", "withdrawn": None}
SAME = {**HOLE, "id": "GHSA-1", "aliases": ["CVE-1", "PYSEC-1"]}


@pytest.fixture
def tool() -> ModuleType:
    return load("advisories")


def run(
    tool: ModuleType, patch: pytest.MonkeyPatch, tmp_path: Path, pages: dict[str, tuple[str, list[dict[str, Any]]]]
) -> int:
    """Over a lock of `good` 1.0 and `bad` 2.0; `pages`: the version and its vulnerabilities, by what is asked for."""

    def asked(url: str) -> Any:
        found = pages.get(url.removeprefix(tool.INDEX + "/").removesuffix("/json"))
        return found and {"info": {"version": found[0]}, "vulnerabilities": found[1]}

    patch.setattr(tool, "asked", asked)
    lock = tmp_path / "a.lock"
    lock.write_text("# pins\ngood==1.0 \\\n    --hash=sha256:00\nbad==2.0 \\\n    --hash=sha256:00\n")
    return tool.main([str(lock)])


def test_a_vulnerability_under_two_names_is_told_once(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {
        "good/1.0": ("1.0", []),
        "bad/2.0": ("2.0", [HOLE, SAME, {**HOLE, "id": "X", "aliases": [], "withdrawn": "yes"}]),
    }
    assert run(tool, monkeypatch, tmp_path, pages) == 1
    assert capsys.readouterr().out.splitlines() == [
        "bad 2.0: PYSEC-1 Reads anything.",
        "audited 2 of 2 packages; vulnerabilities not accepted: 1",
    ]


def test_what_is_accepted_is_told_with_its_reason(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "ACCEPTED", {"CVE-1": "nobody reads here"})
    assert run(tool, monkeypatch, tmp_path, {"good": ("1.0", []), "bad": ("2.0", [HOLE])}) == 0
    assert "bad 2.0: PYSEC-1 Reads anything. (accepted: nobody reads here)" in capsys.readouterr().out


def test_a_newer_versions_page_says_nothing_of_ours(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, monkeypatch, tmp_path, {"good": ("1.0", []), "bad": ("3.0", [])}) == 0
    told = capsys.readouterr().out
    assert "audited 1 of 2 packages" in told
    assert told.endswith("alone: bad 2.0\n")


def test_no_answer_is_no_finding_and_says_so(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(url: str) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(tool, "asked", refused)
    (tmp_path / "a.lock").write_text("good==1.0\n")
    assert tool.main([str(tmp_path / "a.lock")]) == 0
    assert "NOT AUDITED" in capsys.readouterr().out


def test_the_locks_are_read(tool: ModuleType) -> None:
    pins = tool.PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert ("transformers", "5.17.0") in pins
