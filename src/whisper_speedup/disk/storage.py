"""Failures of disks and folders in plain words, as device.py has those of a GPU."""

import errno
import os

FULL = {errno.ENOSPC, errno.EDQUOT}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
# What a path or a disk can be guilty of, and our code cannot: anything else is a bug and keeps its traceback.
OTHER = {
    errno.EIO, errno.EFBIG, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE,
    errno.ESTALE, errno.ENODEV, errno.ENXIO,
}  # fmt: skip


def failure(error: OSError) -> str | None:
    """One sentence for a disk or folder that cannot be used, None for any other error."""
    number = error.errno
    if number is None or number not in FULL | REFUSED | OTHER:
        return None
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    why = os.strerror(number)
    if number in FULL:
        return f"the disk is full{f' ({where} cannot be written)' if where else ''}: free some space, then run again."
    subject = where or "a file"
    if number in REFUSED:
        return f"{subject} cannot be opened or written ({why}): correct its permissions, then run again."
    if number == errno.EIO:
        return f"the disk failed ({where or 'no file named'}: {why}): look for its errors with dmesg, then run again."
    return f"{subject} cannot be used ({why}): correct that, then run again."


def reason(error: BaseException) -> OSError | None:
    """The failure of a disk that a library's own exception hides, None where there is none.

    safetensors, written in Rust, raises no OSError; its text ends in `(os error 28)`.
    """
    if isinstance(error, OSError):
        return error
    for number in FULL | REFUSED | {errno.EIO}:
        if f"(os error {number})" in str(error):
            return OSError(number, os.strerror(number))
    return None
