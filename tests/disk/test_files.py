import json
import os
from pathlib import Path

import pytest

from whisper_speedup.disk import files
from whisper_speedup.errors import UserError


def test_json_is_the_same_bytes_for_the_same_value(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    files.write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'


def test_rows_keep_their_key_order_and_any_text(tmp_path: Path) -> None:
    rows = [{"id": "b", "a": "line\u2028separator\x85and\nnewline"}, {"id": "a", "a": None}]
    files.write_jsonl(tmp_path / "deep" / "rows.jsonl", rows)
    read = files.read_jsonl(tmp_path / "deep" / "rows.jsonl")
    assert read == rows
    assert [list(row) for row in read] == [["id", "a"], ["id", "a"]]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_jsonl(path, [{"a": 1}, {"a": float("inf")}])
    assert files.read_json(path) == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_rename_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        assert source.read_text() == "new"
        raise OSError("disk full")

    files.write_text(tmp_path / "a", "old")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut cannot be had here, so: what is asked of the system, in which order."""
    asked, rename, fsync = [], os.replace, os.fsync

    def synced(handle: int) -> None:
        asked.append(("fsync", os.fstat(handle).st_ino))
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        asked.append(("rename", source.stat().st_ino))
        rename(source, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("os.replace", renamed)
    files.write_text(tmp_path / "a", "whole")
    file, folder = (path.stat().st_ino for path in (tmp_path / "a", tmp_path))
    assert asked == [("fsync", file), ("rename", file), ("fsync", folder)]


def test_lines_begin_at_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": "Ä, ü"}\n\n{"a": 2}\r\n{"a": "\u2028"}\n'.encode())
    found = list(files.iter_jsonl(path))
    assert [row for _, row in found] == [{"a": "Ä, ü"}, {"a": 2}, {"a": "\u2028"}]
    with path.open("rb") as file:
        for begin, row in found:
            file.seek(begin)
            assert json.loads(file.readline()) == row


@pytest.mark.parametrize("read", [files.read_json, files.read_jsonl])
@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "does not exist"), (b"{}\n{", "is not valid JSON"), (b"\xff", "valid JSON|UTF-8")],
)
def test_a_damaged_file_is_named(tmp_path: Path, read: object, content: bytes | None, expected: str) -> None:
    path = tmp_path / "rows"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as refused:
        read(path)  # type: ignore[operator]
    assert str(path) in str(refused.value)
    assert str(refused.value).endswith("dvc repro).") or str(refused.value).endswith("dvc repro.")


def test_a_bad_line_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n{"a"\n')
    with pytest.raises(UserError, match="line 4"):
        files.read_jsonl(tmp_path / "rows.jsonl")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
