"""The manifest read row by row: the same rows as read at once, and the same refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from whisper_speedup.audio.index import Index
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.errors import UserError


def row(name: str, duration_s: float = 1.0, error: str | None = None) -> dict[str, Any]:
    there = error is None
    return {
        "id": name, "audio": "audio/a.flac" if there else None, "sha256": "0" * 64 if there else None,
        "duration_s": duration_s if there else 0.0, "sampling_rate": 16000, "reference": "l'été\u2028 x",
        "speaker": None, "cut_from_s": None, "error": error,
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]], between: str = "") -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" + between for one in rows), encoding="utf-8")
    return path


def test_rows_are_those_that_are_read_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [row("a"), row("é"), row("c", error="broken")], between="\n")
    index = Index(path)
    assert list(index) == read_manifest(path)
    assert [one.id for one in index.rows([2, 0])] == ["c", "a"]
    assert index[1].id == "é"
    assert [one.id for one in index.readable()] == ["a", "é"]
    assert index.names.find("c") == 2
    with pytest.raises(IndexError):
        index[3]


def test_the_longest_first(tmp_path: Path) -> None:
    index = Index(write(tmp_path / "m.jsonl", [row("a", 2), row("b", 9.5), row("c", error="x"), row("d", 2)]))
    assert list(index.longest_first()) == [1, 0, 3, 2]


def test_refusals_are_the_same(tmp_path: Path) -> None:
    for number, rows in enumerate([[row("a"), row("b"), row("a")], [row("a"), {**row("b"), "duration_s": 31}]]):
        path = write(tmp_path / f"{number}.jsonl", rows)
        with pytest.raises(UserError) as at_once:
            read_manifest(path)
        with pytest.raises(UserError) as row_by_row:
            Index(path)
        assert str(at_once.value) == str(row_by_row.value)
    with pytest.raises(UserError, match="does not exist"):
        Index(tmp_path / "none.jsonl")
    assert len(Index(write(tmp_path / "empty.jsonl", []))) == 0
