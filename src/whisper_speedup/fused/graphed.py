"""The plain decoder with its step in CUDA graphs, one for each position: the ladder's rungs between it and the kernels.

A graph holds the very operations of decoder.py's step at one position, so that what a rung gains is the launches alone.
(The kernels need one graph for all positions, for they read the position on the device.)
"""

from functools import partial

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.cache import AncestryPast, SharedCross
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.decoder import prefill, step
from whisper_speedup.fused.device_search import DeviceSearch
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.run_ahead import run_ahead
from whisper_speedup.fused.settings import DecodingSettings


class GraphedWhisper(FusedWhisper):
    """FusedWhisper whose steps of an utterance's first window are replayed.

    `device_search`: the beam search is one kernel at the end of the step, and the host looks at its done flag one step
    behind; else the host runs beam_search.py on the step's logits, and waits for each. `graphs=False` runs the same
    operations without capturing them, for a CPU with Triton's interpreter.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        settings: DecodingSettings,
        device: torch.device,
        dtype: torch.dtype,
        device_search: bool,
        graphs: bool = True,
    ) -> None:
        self.device_search, self.use_graphs = device_search, graphs
        super().__init__(model, settings, device, dtype)

    def _use(self, settings: DecodingSettings) -> None:
        super()._use(settings)
        past, cross = self.cache.past, self.cache.cross
        assert isinstance(past, AncestryPast)
        assert isinstance(cross, SharedCross)
        cross.in_place = True
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.tokens = torch.zeros(settings.num_beams, dtype=torch.int64, device=self.device)
        self.parents = torch.zeros_like(self.tokens)
        self.logits: dict[int, torch.Tensor] = {}
        self.search: DeviceSearch | None = None
        if self.device_search:
            self.search = DeviceSearch(settings, self.weights.embedding.shape[0], self.device)
            past.ancestry = self.search.state.ancestry[: settings.num_beams]

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode to the length limit, capture, and decode with the graphs."""
        super().warm_up(features)
        if self.use_graphs and not self.graphs:
            with self._modes():
                self._capture()
        self.generate(features)

    def _capture(self) -> None:
        """A graph for each position behind the prompt; the decode before has warmed all of them up."""
        settings = self.settings
        limits = (len(settings.prompt), settings.max_total(0), settings.min_length)
        positions = range(len(settings.prompt), settings.max_total(0) - 1)
        work = {position: partial(self._run, position, limits) for position in positions}
        self.graphs = capture(self.device, work, warm=())

    def _run(self, position: int, limits: tuple[int, int, int]) -> None:
        """What a graph holds: one step, and the search where it is the device's."""
        if self.search is not None:
            tokens = self.search.state.tokens[: self.settings.num_beams]
            self.search.choose(step(self.weights, self.cache, tokens, position), *limits)
        else:
            self.cache.reorder(self.parents)
            self.logits[position] = step(self.weights, self.cache, self.tokens, position)

    def _step(self, tokens: torch.Tensor, parents: torch.Tensor, position: int) -> torch.Tensor:
        self.tokens.copy_(tokens)
        self.parents.copy_(parents)
        self._replay(position, (0, 0, 0))
        return self.logits[position]

    def _replay(self, position: int, limits: tuple[int, int, int]) -> None:
        """Start the position's graph, or run it where there is none; the `limits` of graphs are the first window's."""
        if position in self.graphs:
            self.graphs[position].replay()
        else:
            self._run(position, limits)

    def _search(self, settings: DecodingSettings, prompt: list[int], max_total: int) -> Hypothesis:
        search = self.search
        if search is None:
            return super()._search(settings, prompt, max_total)
        limits = (len(prompt), max_total, settings.min_length)
        first = limits == (len(self.settings.prompt), self.settings.max_total(0), self.settings.min_length)
        with self.part("prefill"):
            search.state.reset(len(prompt))
            search.choose(prefill(self.weights, self.cache, torch.tensor(prompt, device=self.device)), *limits)

        def run(position: int) -> None:
            with self.part("steps"):
                if first:
                    self._replay(position, limits)
                else:
                    self._run(position, limits)

        steps = [partial(run, position) for position in range(len(prompt), max_total - 1)]
        run_ahead(steps, search.state.host_done, self.device)
        return self._checked(search.result())
