"""What ends a run early, what is left of it, and how the next process goes on from there."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from generated_runs import profile

from whisper_speedup.disk.files import read_jsonl
from whisper_speedup.disk.names import Names
from whisper_speedup.errors import UserError
from whisper_speedup.run.partial import Partial, one_sentence
from whisper_speedup.run.rows import PartialKey, Result, Session

KEY = PartialKey(
    engine="counting", data_sha256="", weights_sha256="ab", model_sha256="", source_sha256="old", dtype="float32",
    settings={"launch": [1, 2]}, prompt=[2], device="cpu", threads=1, environment={}, repeats=1, warmup=1,
    generation=profile().generation,
)  # fmt: skip
IDS = Names(["a", "b", "c"])
SESSION = Session(started="today")
KEPT = "utterances are kept in"
FROM_THERE = "and running again goes on from there"


def opened(folder: Path, key: PartialKey = KEY, session: Session = SESSION) -> Partial:
    return Partial(folder / "partial" / "counting.jsonl", key, IDS, session)


def row(name: str, text: str = "l'été\u2028", error: str | None = None) -> Result:
    return Result(id=name, text=text, error=error)


def rows(partial: Partial) -> dict[str, Result]:
    return {kept.id: kept for kept in map(Result.model_validate_json, partial.lines())}


def begun(folder: Path) -> Partial:
    partial = opened(folder)
    partial.extend([row("a")])
    return partial


def test_each_row_is_on_disk_at_once(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    for number in (1, 2):
        assert [entry["id"] for entry in read_jsonl(partial.path)[2:]] == ["a", "b"][:number]
        partial.extend([row("b")])
    header, session = read_jsonl(partial.path)[:2]
    assert header == {"format": 2, "key": KEY.content(), "total": 3}
    assert session == {"session": {"started": "today"}}
    assert read_jsonl(partial.path)[2] == row("a").model_dump()
    partial.close()


def test_the_same_key_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path).close()
    partial = opened(tmp_path, session=Session(started="tomorrow"))
    assert rows(partial) == {"a": row("a")}
    assert partial.resumed_from == [SESSION.but(rows=1)]
    assert capsys.readouterr().err == f"going on: 1 of 3 {KEPT} {partial.path}\n"
    partial.extend([row("b")])
    partial.close()
    third = opened(tmp_path)
    assert third.resumed_from == [SESSION.but(rows=1), Session(rows=1, started="tomorrow")]
    third.close()
    kinds = [next(iter(entry)) for entry in read_jsonl(third.path)]
    assert kinds == ["format", "session", "id", "session", "id", "session"]


def test_a_first_run_is_no_resumed_one(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    assert (rows(partial), partial.resumed_from) == ({}, None)
    partial.close()
    again = opened(tmp_path)  # the process before made no row
    assert (rows(again), again.resumed_from) == ({}, None)
    again.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_sha256": "cd"}, "weights_sha256"),
        ({"settings": {"launch": [1, 3]}, "engine": "other"}, "engine, settings"),
        ({"source_sha256": "new"}, "source_sha256"),
    ],
)
def test_another_key_begins_anew_and_keeps_the_old_rows_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], named: str
) -> None:
    begun(tmp_path).close()
    before = (tmp_path / "partial" / "counting.jsonl").read_bytes()
    partial = opened(tmp_path, KEY.but(**change))
    partial.close()
    assert rows(partial) == {}
    assert f"made with something else ({named}): kept as counting.aside.jsonl" in capsys.readouterr().err
    assert partial.path.with_name("counting.aside.jsonl").read_bytes() == before
    assert len(read_jsonl(partial.path)) == 2


def test_rows_with_an_error_are_tried_again_and_the_last_one_counts(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    partial.extend([row("b", error="the disk was wet.")])
    partial.close()
    again = opened(tmp_path)
    assert list(rows(again)) == ["a"]
    again.extend([row("b", text="dry")])
    again.close()
    third = opened(tmp_path)
    assert {name: kept.text for name, kept in rows(third).items()} == {"a": row("a").text, "b": "dry"}
    assert [session.rows for session in third.resumed_from or []] == [1, 1]
    third.close()


def test_a_file_cut_at_any_byte_keeps_every_whole_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in ("fsync", "fdatasync"):  # milliseconds each, and a power cut is not what happens here
        monkeypatch.setattr(os, slow, lambda file: None)
    partial = begun(tmp_path)
    partial.extend([row("b")])
    partial.close()
    content = partial.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        partial.path.write_bytes(content[:cut])
        again = opened(tmp_path)
        again.close()
        whole = sum(end <= cut for end in ends)
        assert list(rows(again)) == ["a", "b"][: max(0, whole - 2)], cut
        kept = ends[whole - 1] if whole else 0
        left = again.path.read_bytes()
        assert left.startswith(content[:kept])
        assert all(read_jsonl(again.path))  # every line is whole again
        assert not [path for path in again.path.parent.iterdir() if path != again.path]


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 64 + b"\n", b"\xff\xfe\n", b"[]\n", b'{"id": 3, "error": null}\n', b"[" * 9999 + b"\n", b'{"x": 1}\n'],
)
def test_a_damaged_line_and_what_follows_it_are_dropped(tmp_path: Path, tail: bytes) -> None:
    partial = begun(tmp_path)
    partial.close()
    content = partial.path.read_bytes()
    partial.path.write_bytes(content + tail + b'{"id": "b", "error": null}\n')
    again = opened(tmp_path)
    again.close()
    assert list(rows(again)) == ["a"]
    assert again.path.read_bytes().startswith(content + b'{"session"')


def test_rows_of_strangers_are_left_out(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    partial.close()
    with partial.path.open("a", encoding="utf-8") as file:
        file.write(row("nobody").model_dump_json() + "\n")
    again = opened(tmp_path)
    assert list(rows(again)) == ["a"]
    again.close()


def test_what_is_done_leaves_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with one_sentence(partial):
        partial.extend([row("b")])
    partial.remove()
    assert not list(tmp_path.iterdir())


def test_another_engines_rows_stay(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    partial.close()
    (tmp_path / "partial" / "other.jsonl").write_text("")
    partial.remove()
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["other.jsonl"]


class Full:
    """os.write on a disk that takes `room` more bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.write = room, os.write

    def __call__(self, file: int, data: bytes) -> int:
        if file <= 2:
            return self.write(file, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.write(file, data[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("room", range(0, 60, 7))
def test_a_disk_that_becomes_full_halves_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    partial = begun(tmp_path)
    before = partial.path.read_bytes()
    monkeypatch.setattr("os.write", Full(room))
    with pytest.raises(UserError) as ended, one_sentence(partial):
        partial.extend([row("b", text="x" * 60)])
    assert str(ended.value) == (
        f"the disk is full ({partial.path} cannot be written): free some space, then run again; 1 of 3 {KEPT}"
        f" {partial.path}, {FROM_THERE}."
    )
    assert partial.path.read_bytes() == before


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("the disk is wet."), "the disk is wet"),
        (
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it"),
            "illegal memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"), "20.00 MiB more"),
        (MemoryError(), "this machine's memory is full"),
        (OSError(errno.EROFS, "", "build/x"), "build/x cannot be opened or written (Read-only file system)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_early_end_says_what_is_kept(tmp_path: Path, error: Exception, sentence: str) -> None:
    partial = begun(tmp_path)
    with pytest.raises(UserError) as ended, one_sentence(partial):
        raise error
    said = str(ended.value)
    assert sentence in said
    assert said.endswith(f"; 1 of 3 {KEPT} {partial.path}, {FROM_THERE}.")
    assert "\n" not in said
    assert [entry.get("id") for entry in read_jsonl(partial.path)] == [None, None, "a"]


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt, match=rf"^1 of 3 {KEPT} .*counting\.jsonl, {FROM_THERE}\.$"),
        one_sentence(partial),
    ):
        raise KeyboardInterrupt


def test_a_bug_stays_a_bug_and_the_rows_stay_too(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with pytest.raises(ZeroDivisionError) as ended, one_sentence(partial):
        raise ZeroDivisionError
    assert ended.value.__notes__ == [partial.said()]
    assert partial.path.exists()


def test_before_the_first_row_nothing_is_said_of_rows() -> None:
    with pytest.raises(UserError, match=r"^not here\.$"), one_sentence():
        raise UserError("not here.")
    with pytest.raises(UserError, match="memory is full"), one_sentence():
        raise RuntimeError("CUDA error: out of memory")


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open(tmp_path: Path) -> Iterator[None]:
    yield
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name.isdigit()
             and os.path.islink(f"/proc/self/fd/{name}")]  # fmt: skip
    assert not [link for link in links if link.startswith(str(tmp_path))]
