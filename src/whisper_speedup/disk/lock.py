"""One process for one stage: a lock that dies with the process that holds it, however that ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whisper_speedup.errors import UserError


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, and remove it at the end. `what`: what its holder does, such as "decoding".

    The lock is the kernel's (flock) and not the file's presence: a file that a killed process left behind is free.
    Raises UserError at once when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path, what)
    try:
        with suppress(OSError):  # a full disk: the lock holds without its holder's name
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held: nobody can lock a file that is about to go
        os.close(file)


def _locked(path: Path, what: str) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
        except BlockingIOError:
            holder = os.read(file, 20).decode("ascii", "replace").strip()
            os.close(file)
            who = f"another process ({holder})" if holder.isdigit() else "another process"
            raise UserError(f"{who} is {what} already: wait until it has ended, or end it, then run again.") from None
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                return file  # a file system without locks: then nobody watches, as before there were any
            os.close(file)
            raise
        os.close(file)  # its holder has removed it between our two calls: take the one that is there


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(file)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
