"""Failures of disks and folders, provoked where a test can, as one sentence."""

import errno
import os
from pathlib import Path

import pytest

from whisper_speedup.disk.storage import failure, reason


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full (a/b cannot be written): free some space, then run again."),
        (errno.EDQUOT, "the disk is full (a/b cannot be written): free some space, then run again."),
        (
            errno.EROFS,
            "a/b cannot be opened or written (Read-only file system): correct its permissions, then run again.",
        ),
        (errno.EACCES, "a/b cannot be opened or written (Permission denied): correct its permissions, then run again."),
        (errno.EIO, "the disk failed (a/b: Input/output error): look for its errors with dmesg, then run again."),
        (errno.ENOTDIR, "a/b cannot be used (Not a directory): correct that, then run again."),
    ],
)  # fmt: skip
def test_a_disk_is_one_sentence(number: int, sentence: str) -> None:
    assert failure(OSError(number, "whatever", "a/b")) == sentence
    assert failure(OSError(number, "whatever", b"a/b")) == sentence


def test_without_a_name() -> None:
    assert failure(OSError(errno.ENOSPC, "")) == "the disk is full: free some space, then run again."


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "", "x"), OSError("odd"), BrokenPipeError(32, "")])
def test_a_bug_is_none(error: OSError) -> None:
    assert failure(error) is None


def test_a_real_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("this machine has no /dev/full")
    with pytest.raises(OSError, match="No space") as full, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert failure(full.value) == "the disk is full: free some space, then run again."
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory") as odd:
        (tmp_path / "file" / "x").read_text()
    assert failure(odd.value) == f"{tmp_path}/file/x cannot be used (Not a directory): correct that, then run again."


def test_what_other_libraries_hide() -> None:
    hidden = reason(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert hidden is not None
    assert hidden.errno == errno.ENOSPC
    assert reason(RuntimeError("shapes do not match")) is None
    own = OSError(1, os.strerror(1))
    assert reason(own) is own
