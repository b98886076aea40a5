"""One process for one stage."""

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from whisper_speedup.disk.lock import only_one
from whisper_speedup.errors import UserError


def holder(path: Path) -> int:
    """A process that holds the lock until it is killed; returns once it does."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with only_one(path, "busy"):
            os.write(tell, b"x")
            signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    return child


def test_the_second_refuses_and_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".stage.lock"
    child = holder(path)
    try:
        with pytest.raises(UserError) as refused, only_one(path, "decoding"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert str(refused.value) == (
        f"another process ({child}) is decoding already: wait until it has ended, or end it, then run again."
    )
    assert path.exists()  # what a killed process leaves behind
    with only_one(path, "decoding"):  # and it is free
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / ".stage.lock"
    with pytest.raises(ZeroDivisionError), only_one(path, "x"):
        raise ZeroDivisionError
    with only_one(path, "x"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_that_its_holder_removes_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our opening of the file and our lock on it its holder ends, and a third process begins with a new one."""
    path, flock = tmp_path / ".stage.lock", fcntl.flock
    children: list[int] = []

    def late(file: int, how: int) -> None:
        if not children:
            path.unlink()
            children.append(-1)  # not again, in the child
            children.append(holder(path))
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", late)
    try:
        with pytest.raises(UserError, match="another process"), only_one(path, "decoding"):
            pass
    finally:
        os.kill(children[1], signal.SIGKILL)
        os.waitpid(children[1], 0)


def test_of_many_that_try_again_and_again_one_at_a_time_holds_it(tmp_path: Path) -> None:
    """Removing the file at the end leaves no moment in which two hold it: one the old file, one a new one."""
    path, inside, most, entries = tmp_path / ".stage.lock", 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, entries
        mine = 0
        while mine < 15:  # the machine's load decides how many tries that takes
            try:
                with only_one(path, "x"):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                        entries += 1
                        mine += 1
                    with guard:
                        inside -= 1
            except UserError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert entries >= 60
