"""Workers as Ray actors: one a GPU of the cluster, or one that computes on processor cores.

The cluster's machines need Python, this project's dependencies and Ray. This package is sent along; audio that a
machine does not see comes with each chunk, and weights it brings itself.
"""

import os
import queue
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from whisper_speedup.errors import UserError
from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import LAST, Asks, Bug, Failed, Item, Lost, Said, end_of
from whisper_speedup.run.worker import work

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.actor import ActorHandle

PACKAGE = Path(__file__).parents[1]
WANTED = "the cluster's machines need this project's dependencies, in the versions that are installed here"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Actor:
    """A worker: `hear` runs as long as it does, and `give` answers it meanwhile from another thread of the actor."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.chunks: queue.SimpleQueue[list[Item]] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()

    def give(self, chunk: list[Item]) -> None:
        """The answer to Asks."""
        self.chunks.put(chunk)

    def process(self) -> int:
        """Its process id."""
        return os.getpid()

    def hear(self) -> Iterator[list[Said]]:
        """What the worker says, in groups, until its last word."""
        threading.Thread(target=self._work, daemon=True).start()
        while True:
            group = [self.said.get()]
            with suppress(queue.Empty):
                while True:
                    group.append(self.said.get_nowait())
            yield group
            if isinstance(group[-1], LAST):
                return

    def _work(self) -> None:
        try:
            with closing(work(self.job, self._more)) as messages:
                for message in messages:
                    self.said.put(message)
        except BaseException as error:
            self.said.put(end_of(error))

    def _more(self, wait: bool) -> list[Item]:
        self.said.put(Asks(wait))
        return self.chunks.get()


class RayActors:
    """A crew.Pool on the cluster at `address`; "local" is one on this machine, for this run alone.

    `size`: the number of workers, None for one a GPU, or one a machine where there is none. Raises UserError.
    """

    def __init__(self, address: str, device: str, size: int | None) -> None:
        self.ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of every start
        here = {"include_dashboard": False} if address == "local" else {}
        try:
            self.ray.init(
                address=address, runtime_env={"py_modules": [str(PACKAGE)]}, log_to_driver=False,
                logging_level="ERROR", **here,
            )  # fmt: skip
        except Exception as error:  # Ray's own kinds of failure are many
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"no Ray cluster answers at {address} ({first.rstrip('.')}): correct --ray-address, or start one with"
                " ray start --head."
            ) from None
        self.actors: dict[int, ActorHandle] = {}
        self.streams: dict[ObjectRefGenerator, int] = {}
        self.jobs: Sequence[Job] = ()  # set before the first worker starts
        try:
            machines = sum(node["Alive"] for node in self.ray.nodes())
            self.size, self.gpus, self.threads = shares(self.ray.cluster_resources(), machines, device, size)
        except UserError:
            self.ray.shutdown()
            raise

    def start(self, number: int) -> None:
        """Start an actor."""
        options = {"num_cpus": 1, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD", "max_concurrency": 3}
        actor = self.ray.remote(Actor).options(**options).remote(self.jobs[number])
        self.actors[number] = actor
        self.streams[actor.hear.options(num_returns="streaming").remote()] = number

    def give(self, number: int, chunk: list[Item]) -> None:
        """Answer a worker that asks."""
        if number in self.actors:
            self.actors[number].give.remote(chunk)

    def hear(self, limit_s: float) -> list[tuple[int, Said]]:
        """What workers have said, a group of each that has."""
        streams = list(self.streams)
        ready, _ = self.ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = self.ray.wait(streams, num_returns=1, timeout=limit_s, fetch_local=False)
        heard: list[tuple[int, Said]] = []
        for stream in ready:
            number = self.streams[stream]
            group = self._group(stream)
            heard += [(number, said) for said in group]
            if isinstance(group[-1], LAST):
                del self.streams[stream]
                self.ray.kill(self.actors.pop(number))
        return heard

    def close(self) -> None:
        """End all actors, and the connection with them."""
        for actor in self.actors.values():
            with suppress(Exception):
                self.ray.kill(actor)
        self.actors, self.streams = {}, {}
        self.ray.shutdown()

    def _group(self, stream: "ObjectRefGenerator") -> list[Said]:
        try:
            return self.ray.get(next(stream))
        except self.ray.exceptions.RayTaskError as error:
            return [Bug(str(error))]
        except (self.ray.exceptions.RayError, StopIteration) as error:
            lines = [line.strip() for line in COLOURS.sub("", str(error)).splitlines() if line.strip()]
            if "creation task" in str(error):  # each other would end in the same way
                return [Failed(f"a Ray actor does not start ({lines[-1].rstrip('.')}): {WANTED}.")]
            return [Lost(f"its Ray actor is gone ({lines[0].rstrip('.:') if lines else type(error).__name__}).")]


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise UserError(
            "--ray-address needs Ray, which is not installed: pip install 'whisper-speedup[ray]', or leave the option"
            " out to use this machine alone."
        ) from None
    return ray


def shares(resources: dict[str, float], machines: int, device: str, size: int | None) -> tuple[int, int, int | None]:
    """How many workers, the GPUs of each, and its threads where it computes on cores. Raises UserError for more workers
    than there is room for.
    """
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    on_cores = device == "cpu" or (device == "auto" and not gpus)
    size, room, what = size or (machines if on_cores else gpus), cores if on_cores else gpus, "processor cores"
    if not room or size > room:
        what = what if on_cores else "GPUs"
        raise UserError(f"measure.workers is {size or 'auto'}, but the Ray cluster has {room} {what}: lower it.")
    return size, int(not on_cores), cores // size if on_cores else None
