"""Slots on a GPU: encoder and step as CUDA graphs, results in pinned memory, the host some steps ahead.

The host starts a step and then looks at what the step before it left, so it never waits for the one it has just
started. A slot that ended is found one step late; that step leaves it out, so it costs next to nothing.
"""

from collections import deque
from functools import partial

import torch

from whisper_speedup.fused.batch_decoder import BatchDecoder, BatchLaunch, slot_bytes
from whisper_speedup.fused.batch_encoder import BatchEncoder
from whisper_speedup.fused.batch_stream import Ended, StreamTimes, limit_of
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_model import DeviceWhisper
from whisper_speedup.fused.settings import DecodingSettings

MOST_SLOTS = 128  # more gain little: a step's weights are a twentieth of its bytes by then
ENCODED_TOGETHER = 8  # utterances; fewer leave multiprocessors idle, more only cost memory
FEW = 8  # up to so many utterances run in graphs of so many slots, and are encoded one at a time
SHARE = 0.85  # of the memory that is free, for slots
AHEAD = 1  # steps that are started while the host looks at an earlier one's results


class DeviceSlots:
    """Fixed slots over the weights of `whisper`, which also decodes what no slot can: a second window.

    `graphs=False` launches kernel by kernel: for a CPU with Triton's interpreter.
    """

    def __init__(
        self, whisper: DeviceWhisper, settings: DecodingSettings, slots: int, launch: BatchLaunch, graphs: bool = True
    ) -> None:
        self.whisper, self.settings, self.use_graphs = whisper, settings, graphs
        self.device = whisper.device
        self.timed = self.device.type == "cuda"
        self.sizes = sorted({min(FEW, slots), slots})
        self.deciding = self.sizes[0] + 1
        self.together = min(ENCODED_TOGETHER, slots)
        self.decoder = BatchDecoder(whisper.weights, settings, whisper.source_positions, slots, launch)
        # On a CPU encoder.py's weights are packed for it, and several utterances at once gain nothing.
        self.encoder = BatchEncoder(whisper.encoder) if self.timed else None
        self.features = torch.zeros(
            self.together, whisper.mels, whisper.frames, dtype=torch.float32, device=self.device
        )
        shape = (self.together, whisper.source_positions, whisper.weights.embedding.shape[1])
        self.states = torch.zeros(shape, device=self.device, dtype=whisper.dtype)
        self.graphs: dict[tuple[str, int], torch.cuda.CUDAGraph] = {}
        self.events: deque[torch.cuda.Event] = deque()  # one behind each step that is not known to have finished
        self.use(slots)

    def use(self, utterances: int) -> None:
        """Begin a stream of so many utterances, or more where that is at least the number of slots; what is in flight
        is dropped."""
        self.count = next((size for size in self.sizes if size >= utterances), self.sizes[-1])
        self.encode_count = self.together if self.count > FEW else 1
        self.spans: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()
        self.times = StreamTimes()
        self._idle()

    @torch.inference_mode()
    def capture(self) -> None:
        """Compile every kernel and capture every graph. Part of warming up; takes seconds."""
        work = {("step", size): partial(self._run_step, size) for size in self.sizes}
        work |= {("encode", count): partial(self._run_encode, count) for count in sorted({1, self.together})}
        self.graphs = capture(self.device, work)

    def _run_step(self, size: int) -> None:
        self.decoder.step(size, self.settings.min_length)

    def _run_encode(self, count: int) -> None:
        if self.encoder is not None:
            self.states[:count].copy_(self.encoder(self.features[:count]))
        else:
            for index in range(count):
                self.states[index].copy_(self.whisper.encoder(self.features[index : index + 1]))

    def _run(self, part: str, size: int) -> None:
        if self.use_graphs:
            self.graphs[part, size].replay()
        else:
            (self._run_step if part == "step" else self._run_encode)(size)

    @torch.inference_mode()
    def encode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Encoder states of up to `encode_count` utterances (1, mels, frames), each to be given to `start` before the
        next call. Rows beyond the last are what was there: what an utterance gives does not depend on them."""
        begin = self._mark()
        for row, one in enumerate(features):
            self.features[row].copy_(one[0], non_blocking=True)
        self._run("encode", self.encode_count)
        self._span("encoder", begin)
        return list(self.states[: len(features)])

    @torch.inference_mode()
    def start(self, slot: int, states: torch.Tensor, max_length: int | None = None) -> None:
        """See Slots: its cross-attention keys and values, and the search's start."""
        begin = self._mark()
        self.decoder.start(slot, states, limit_of(self.settings, len(self.settings.prompt), max_length))
        self._span("encoder", begin)

    @torch.inference_mode()
    def step(self) -> None:
        """Start a step of all slots."""
        begin = self._mark()
        self._run("step", self.count)
        self.times.steps += 1
        end = self._span("decoder", begin)
        if end is not None:
            self.events.append(end)

    def ended(self) -> list[Ended]:
        """What the steps ended that have finished. Waits for all steps but the last AHEAD."""
        while len(self.events) > AHEAD:
            self.events.popleft().synchronize()
        finished = self.times.steps - len(self.events)
        state, found = self.decoder.state, []
        for slot, step in enumerate(state.host_ended.tolist()):
            if 0 < step <= finished:
                tokens = state.host_tokens[slot, : int(state.host_lengths[slot])].tolist()
                found.append(Ended(slot, Hypothesis.of(tokens, float(state.host_scores[slot]), self.settings.eos)))
                state.host_ended[slot] = 0
        self._sum_up()
        return found

    def single(self, features: torch.Tensor) -> Hypothesis:
        """See Slots: kernel by kernel, which is slow and rare."""
        return self.whisper.generate(features.to(self.device))

    def _idle(self) -> None:
        if self.timed:
            torch.cuda.synchronize(self.device)
        self.decoder.state.idle()
        self.events.clear()

    def _mark(self) -> "torch.cuda.Event | None":
        if not self.timed:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _span(self, part: str, begin: "torch.cuda.Event | None") -> "torch.cuda.Event | None":
        end = self._mark()
        if begin is not None and end is not None:
            self.spans.append((part, begin, end))
        return end

    def _sum_up(self) -> None:
        """Add up the spans that have ended."""
        while self.spans and self.spans[0][2].query():
            part, begin, end = self.spans.popleft()
            self.times.add(part, begin.elapsed_time(end) / 1e3)


def slots_that_fit(whisper: DeviceWhisper, settings: DecodingSettings, most: int = MOST_SLOTS) -> int:
    """How many slots the free memory holds, at most `most`; a multiple of 8, so that a little more or less free memory
    does not make other shapes, which round otherwise."""
    free, _ = torch.cuda.mem_get_info(whisper.device)
    free += torch.cuda.memory_reserved(whisper.device) - torch.cuda.memory_allocated(whisper.device)
    each = slot_bytes(whisper.weights, settings, whisper.source_positions)
    count = min(most, int(SHARE * free) // each)
    return max(1, count - count % 8 if count > 8 else count)
