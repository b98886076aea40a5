"""Workers as processes of this machine, started anew and not forked, each with a GPU of its own where there are any."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import LAST, Asks, Item, Lost, Said, end_of
from whisper_speedup.run.worker import work

AT_ONCE = 256  # messages taken from one worker before the next one's turn


class Processes:
    """A crew.Pool on this machine, with a job for each worker.

    `gpus`: what CUDA_VISIBLE_DEVICES may name, one for each worker; none leaves them all the driver's.
    """

    def __init__(self, jobs: Sequence[Job], gpus: Sequence[str] = ()) -> None:
        self.jobs, self.gpus = jobs, gpus
        self.context = multiprocessing.get_context("spawn")
        self.workers: dict[int, Connection[list[Item], Said]] = {}
        self.processes: dict[int, SpawnProcess] = {}
        self.old: list[SpawnProcess] = []  # processes that have said their last word

    def start(self, number: int) -> None:
        """Start a process."""
        ours, theirs = self.context.Pipe()
        gpu = self.gpus[number] if self.gpus else None
        arguments = self.jobs[number], theirs, gpu
        process = self.context.Process(target=serve, args=arguments, name=f"worker {number}", daemon=True)
        process.start()
        theirs.close()  # the process's end is the only one left: when that goes, ours says so
        self.workers[number], self.processes[number] = ours, process

    def give(self, number: int, chunk: list[Item]) -> None:
        """Answer a worker that asks."""
        if number in self.workers:
            with suppress(OSError):  # it is gone: `hear` says so next
                self.workers[number].send(chunk)

    def hear(self, limit_s: float) -> list[tuple[int, Said]]:
        """What workers have said, as far as it is there."""
        numbers = {connection: number for number, connection in self.workers.items()}
        heard: list[tuple[int, Said]] = []
        for connection in wait(list(numbers), limit_s):
            number = numbers[connection]  # type: ignore[index]
            heard += [(number, said) for said in self._heard(number)]
        return heard

    def close(self) -> None:
        """End all processes."""
        for connection in self.workers.values():
            connection.close()
        processes = [*self.old, *self.processes.values()]
        for process in self.processes.values():
            process.terminate()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self.workers, self.processes, self.old = {}, {}, []

    def _heard(self, number: int) -> Iterator[Said]:
        connection = self.workers[number]
        for _ in range(AT_ONCE):
            try:
                said = connection.recv()
            except (EOFError, OSError):
                said = Lost(self._why(number))
            yield said
            if isinstance(said, LAST):
                self.workers.pop(number).close()
                self.old.append(self.processes.pop(number))
                return
            if not connection.poll():
                return

    def _why(self, number: int) -> str:
        process = self.processes[number]
        process.join(10)
        code = process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}."
        return f"its process ended with exit code {code}."


class _DriverGone(Exception):
    """Nobody is at the other end of the connection. Not the connection's own error, which an engine may raise too."""


def serve(job: Job, connection: "Connection[Said, list[Item]]", gpu: str | None) -> None:
    """A worker's process, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal: the driver handles it
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
    lock = threading.Lock()  # a batch engine asks from a thread of its own

    def say(said: Said) -> None:
        try:
            with lock:
                connection.send(said)
        except OSError:
            raise _DriverGone from None

    def more(wait: bool) -> list[Item]:
        say(Asks(wait))
        try:
            return connection.recv()
        except (EOFError, OSError):
            raise _DriverGone from None

    try:
        with closing(work(job, more)) as messages:
            for message in messages:
                say(message)
    except _DriverGone:
        return
    except Exception as error:
        with suppress(_DriverGone):
            say(end_of(error))


def visible_gpus(count: int) -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES may choose one of this machine's `count` GPUs that are left to us."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
