"""The fused engine on a GPU: encoder, prompt and step are three CUDA graphs, and the beam search is inside them.

The host starts a graph of several steps and looks, one graph behind, at a flag in pinned memory that a step's last
kernel writes; it never waits for the steps it has just started, and sleeps while it waits for those before. A step
after the search is over changes nothing, so those that were started too many do no harm, and with the layers in one
launch they take no time worth speaking of: that launch ends at once.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.errors import NotANumberError
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_checks import SETTING
from whisper_speedup.fused.device_decoder import MAX_BEAMS, DeviceDecoder
from whisper_speedup.fused.device_weights import DeviceWeights, pack_device_weights
from whisper_speedup.fused.encoder import Encoder
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.run_ahead import run_ahead
from whisper_speedup.fused.segments import decode_windows
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.beam_update import read_hypothesis
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.measure.parts import Part, unwatched


def unserved(settings: DecodingSettings) -> str | None:
    """Why these settings need the plain path, or None when the kernels serve them."""
    if settings.num_beams > MAX_BEAMS:
        return f"{settings.num_beams} beams, and the kernels serve {MAX_BEAMS}"
    if len(settings.prompt) > ROWS:
        return f"a prompt of {len(settings.prompt)} tokens, and the kernels serve {ROWS}"
    if None in settings.prompt:
        return "the language is to be detected"
    return None


STEPS, MORE_STEPS, MANY_LAYERS = 8, 16, 13  # in a graph, where one too many costs little: some 10 ms, or less


def in_graphs(steps: int, about: int) -> dict[int, int]:
    """How many graphs of so many steps make `steps`: sizes that differ by one at most, the larger first.

    Each graph but the last two costs the host a sleep, so what is left over gets none of its own.
    """
    graphs = max(1, round(steps / about))
    size, larger = divmod(steps, graphs)
    return {count: times for count, times in ((size + 1, larger), (size, graphs - larger)) if count and times}


class DeviceWhisper:
    """A Whisper on one GPU with fixed settings; buffers and graphs are made once, and nothing is allocated after.

    `graphs=False` launches kernel by kernel: for a CPU with Triton's interpreter, and for profiling. `weights` are the
    model's, where they are packed already. `encoder_graph=False` launches the encoder's kernels one by one, for the
    ladder. `setting`: the profile's key for the engine's precision, as an error names it.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        settings: DecodingSettings,
        device: torch.device,
        dtype: torch.dtype,
        launch: LaunchConfig,
        graphs: bool = True,
        weights: DeviceWeights | None = None,
        encoder_graph: bool = True,
    ) -> None:
        self.encoder_graph = encoder_graph
        self.device, self.dtype, self.launch = device, dtype, launch
        self.part: Part = unwatched
        self.setting = SETTING
        self.frames = model.config.max_source_positions * 2
        self.mels = model.config.num_mel_bins
        self.encoder = Encoder(model, device, dtype, kernels=True)
        self.weights = weights if weights is not None else pack_device_weights(model, device, dtype)
        self.source_positions = model.config.max_source_positions
        self.use_graphs = graphs
        self._use(settings)

    def _use(self, settings: DecodingSettings) -> None:
        self.settings = settings
        self.decoder = self._decoder(settings.max_total(0))
        self.features = torch.zeros(1, self.mels, self.frames, dtype=torch.float32, device=self.device)
        self.prompt = torch.tensor(settings.prompt, dtype=torch.int32, device=self.device)
        self.prompt_length = len(settings.prompt)
        self.graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self.steps = settings.max_total(0) - self.prompt_length - 1  # at most, behind the prompt
        self.several: dict[int, int] = {}  # how many graphs of so many steps make those

    def with_settings(self, settings: DecodingSettings, weights: DeviceWeights | None = None) -> "DeviceWhisper":
        """Another one over the same packed weights, with buffers and graphs of its own.

        `weights`: the decoder's, where these settings need them packed otherwise or behind another launch.
        """
        other = copy.copy(self)
        other.weights = self.weights if weights is None else weights
        other._use(settings)
        return other

    def _decoder(self, positions: int) -> DeviceDecoder:
        return DeviceDecoder(self.weights, self.settings, self.source_positions, positions, self.launch)

    def gave_up(self) -> bool:
        """Whether the layers' one launch has given up, as the host can tell when the GPU no longer answers."""
        persistent = self.decoder.persistent
        return persistent is not None and bool(persistent.gave_up[0])

    def relaunch(self, launch: LaunchConfig) -> None:
        """Take another launch configuration; the next warm-up compiles and captures with it."""
        positions = self.decoder.positions
        del self.decoder  # before its successor is made
        self.launch, self.graphs = launch, {}
        self.decoder = self._decoder(positions)

    def warm_up(self, features: torch.Tensor) -> None:
        """Compile the kernels and capture the graphs, once, and decode."""
        self.generate(features)

    @torch.inference_mode()
    def capture(self) -> None:
        """Compile every kernel and capture the graphs. Part of warming up; takes seconds."""
        limits = (self.settings.max_total(0), self.settings.min_length)

        def steps(count: int) -> None:
            for _ in range(count):
                self.decoder.step(self.prompt_length, *limits)

        work: dict[str, Callable[[], None]] = {
            "encode": self._encode,
            "prompt": lambda: self.decoder.prompt(self.prompt, *limits),
            "step": lambda: steps(1),
        }
        warm = list(work.values())
        if not self.encoder_graph:
            del work["encode"]
        most = STEPS if self.decoder.keys.shape[0] < MANY_LAYERS else MORE_STEPS
        self.several = in_graphs(self.steps, most) if self.decoder.persistent is not None else {}
        work |= {f"{count} steps": partial(steps, count) for count in self.several}
        self.graphs = capture(self.device, work, warm)

    @torch.inference_mode()
    def generate(
        self, features: torch.Tensor, longest: bool = False, meanwhile: Callable[[], object] | None = None
    ) -> Hypothesis:
        """Decode log-mel features (1, mels, frames) on the device; `longest` forbids end-of-text (kernel by kernel).
        `meanwhile` is what the host has to do besides, done once the GPU has work."""
        if self.use_graphs and not self.graphs:
            self.capture()

        def decode(window: torch.Tensor, segment: int) -> Hypothesis:
            return self._window(window, segment, longest, meanwhile if segment == 0 else None)

        return decode_windows(features, self.frames, self.settings, decode)

    def _window(
        self, window: torch.Tensor, segment: int, longest: bool, meanwhile: Callable[[], object] | None
    ) -> Hypothesis:
        """Decode one window of features; later segments of one utterance are rare and run without graphs."""
        settings = self.settings
        self.features.copy_(window)
        replayed = self.use_graphs and segment == 0 and not longest
        if replayed:
            self._replay(meanwhile)
            decoder = self.decoder
        else:
            if meanwhile is not None:
                meanwhile()
            decoder = self.decoder if segment == 0 else self._decoder(settings.max_total(segment))
            if decoder.persistent is not None and self.decoder.persistent is not None:
                decoder.persistent.gave_up = self.decoder.persistent.gave_up  # where `gave_up` looks
            self._encode()
            decoder.cross.copy_(self.decoder.cross)
            limits = (settings.max_total(segment), settings.max_positions if longest else settings.min_length)
            decoder.prompt(self.prompt, *limits)
            while not int(decoder.state.done):
                decoder.step(self.prompt_length, *limits)
        tokens, score = read_hypothesis(decoder.state, fetched=replayed)
        if not score > -1.0e8:
            raise NotANumberError(self.setting, self.weights.embedding.dtype != torch.float32)
        return Hypothesis.of(tokens, score, settings.eos)

    def _encode(self) -> None:
        """Features to encoder states to every layer's cross-attention keys and values."""
        self.decoder.project(self.encoder(self.features))

    def _replay(self, meanwhile: Callable[[], object] | None) -> None:
        """Start the graphs, looking at the done flag one graph behind."""
        done = self.decoder.state.host_done
        done.zero_()
        with self.part("encoder"):
            if self.encoder_graph:
                self.graphs["encode"].replay()
            else:
                self._encode()
        with self.part("prefill"):
            self.graphs["prompt"].replay()
        if meanwhile is not None:
            meanwhile()

        def start(name: str) -> None:
            with self.part("steps"):
                self.graphs[name].replay()

        names = ["step"] * self.steps
        if self.several and self.part is unwatched:  # a stopwatch counts steps
            names = [f"{count} steps" for count, times in self.several.items() for _ in range(times)]
        starts = [partial(start, name) for name in names]
        run_ahead(starts, done, self.device, self.decoder.state.fetch)
