"""One way to make CUDA graphs: what is warmed up on a side stream first, what is captured, and the pool they share."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
Work = Callable[[], object]


def capture(
    device: torch.device, work: Mapping[Name, Work], warm: Iterable[Work] | None = None
) -> dict[Name, torch.cuda.CUDAGraph]:
    """A graph of each of `work`, in one memory pool; capturing runs nothing.

    `warm` (by default `work`) runs twice before: kernels compile and libraries take their workspaces in the first
    run, and the second runs as all later ones. All of it must be free of waits and of copies to pageable memory.
    """
    side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for run in work.values() if warm is None else warm:
            run()
            run()
    current.wait_stream(side)
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()  # what the kernel-by-kernel runs took; the graphs have a pool of their own
    pool = torch.cuda.graph_pool_handle()
    graphs = {name: torch.cuda.CUDAGraph() for name in work}
    for name, run in work.items():
        with torch.cuda.graph(graphs[name], pool=pool):
            run()
    torch.cuda.synchronize(device)
    return graphs
