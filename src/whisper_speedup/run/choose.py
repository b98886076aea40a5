"""Which workers a run gets: this process, processes of this machine, or actors of a Ray cluster."""

import os
from collections.abc import Callable
from dataclasses import replace

import torch

from whisper_speedup.errors import UserError
from whisper_speedup.measure import device as devices
from whisper_speedup.params.profile import MeasureParams
from whisper_speedup.run.crew import Crew
from whisper_speedup.run.inline import Inline
from whisper_speedup.run.job import Job, Weights
from whisper_speedup.run.local import Clips
from whisper_speedup.run.messages import Item
from whisper_speedup.run.processes import Processes, visible_gpus
from whisper_speedup.run.source import package_sha256


def crew_for(
    job: Job, elsewhere: Weights, items: Callable[[list[int], bool], list[Item]], ray_address: str | None
) -> Inline | Crew:
    """The crew that `job`'s measure.workers asks for, not started yet. `elsewhere`: the weights for other machines.

    Raises UserError for more workers than there are GPUs or cores, and where Ray does not answer.
    """
    measure = job.profile.measure
    if ray_address is not None:
        from whisper_speedup.run.ray_actors import RayActors

        asked = None if measure.workers == "auto" else measure.workers
        actors = RayActors(ray_address, measure.device, asked)
        source = job.source.absolute() if isinstance(job.source, Clips) else job.source
        actors.jobs = several(replace(job, weights=elsewhere, source=source, threads=actors.threads), actors.size)
        return Crew(actors, actors.size, items, package_sha256())
    size, gpus = local_workers(measure)
    if size == 1:
        return Inline(job, items)
    threads = None if gpus else max(1, torch.get_num_threads() // size)
    return Crew(Processes(several(replace(job, threads=threads), size), gpus), size, items, package_sha256())


def several(job: Job, size: int) -> list[Job]:
    """The same for each worker; what is timed behind the run is timed once, by the first."""
    return [replace(job, extras=job.extras and number == 0) for number in range(size)]


def local_workers(measure: MeasureParams) -> tuple[int, list[str]]:
    """How many workers this machine gets, and the GPU of each; none where they compute on the processor's cores."""
    on_gpu = devices.resolve(measure.device).type == "cuda"
    gpus = visible_gpus(torch.cuda.device_count()) if on_gpu else []
    if measure.workers == "auto":
        return (len(gpus) or 1), gpus
    room, what = (len(gpus), "GPUs") if on_gpu else (os.cpu_count() or 1, "processor cores")
    if measure.workers > room:
        raise UserError(f"measure.workers is {measure.workers}, but this machine has {room} {what}: lower it, or auto.")
    return measure.workers, gpus[: measure.workers]
