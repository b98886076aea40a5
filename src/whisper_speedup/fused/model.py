"""The fused engine's decode of one utterance: encoder, prompt, steps, beam search, and Whisper's cut at timestamps."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.errors import NotANumberError
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Hypothesis, Suppression
from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.decoder import prefill, step
from whisper_speedup.fused.device_checks import SETTING
from whisper_speedup.fused.encoder import Encoder
from whisper_speedup.fused.segments import decode_windows
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.fused.switches import Off
from whisper_speedup.fused.weights import LayerStack, pack_decoder
from whisper_speedup.kernels.eight_bits import WeightFormat
from whisper_speedup.measure.parts import Part, unwatched


class FusedWhisper:
    """A Whisper packed for decoding one utterance at a time with fixed settings.

    Takes what it needs from a transformers model and keeps no reference to its decoder, so that the caller can free
    it. Not thread-safe: buffers are reused from one utterance to the next. `phantom_block` is phantom.py's switch;
    `off` names parts left out for the ladder; `weight_format`: rounded weights, which save no bytes here (weights.py);
    `setting`: the profile's key for the engine's precision, as an error names it. Without packed weights on a GPU,
    `dtype` is fp32 and autocast to fp16.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        settings: DecodingSettings,
        device: torch.device,
        dtype: torch.dtype,
        phantom_block: int | None = None,
        stack: LayerStack | None = None,
        off: Off = frozenset(),
        weight_format: WeightFormat | None = None,
    ) -> None:
        self.part: Part = unwatched
        self.setting = SETTING
        self.off = off
        pack = "packed_weights" not in off
        self.autocast = device.type == "cuda" and not pack
        self.device = device
        self.phantom_block = phantom_block
        self.dtype = dtype
        self.weights = pack_decoder(model, device, dtype, stack, pack, weight_format)
        self.encoder = Encoder(model, device, dtype, pack)
        self.frames = model.config.max_source_positions * 2
        self._use(settings)

    def _use(self, settings: DecodingSettings) -> None:
        self.settings = settings
        kept = torch.float16 if self.autocast else self.dtype
        self.cache = Cache(
            self.weights, settings.num_beams, settings.max_positions, self.phantom_block, self.off, kept
        )  # fmt: skip
        self.suppression = Suppression(settings, self.device)
        not_language = torch.ones(self.weights.embedding.shape[0], dtype=torch.bool, device=self.device)
        not_language[list(settings.languages)] = False
        self.not_language = not_language

    def with_settings(self, settings: DecodingSettings) -> "FusedWhisper":
        """Another one over the same packed weights."""
        other = copy.copy(self)
        other._use(settings)
        return other

    def gave_up(self) -> bool:
        """Never: nothing here waits for blocks of its own."""
        return False

    def generate(
        self, features: torch.Tensor, longest: bool = False, meanwhile: Callable[[], object] | None = None
    ) -> Hypothesis:
        """Decode log-mel features (1, mels, frames) on the device; `longest` forbids end-of-text, for warming up.

        `meanwhile` is what the host has to do besides; DeviceWhisper does it while the GPU works.
        """
        if meanwhile is not None:
            meanwhile()
        settings = replace(self.settings, min_length=self.settings.max_positions) if longest else self.settings
        prompt: list[int] = []

        def decode(window: torch.Tensor, segment: int) -> Hypothesis:
            with self.part("encoder"):
                self.cache.start(self.weights, self.encoder(window))
            if not prompt:
                prompt.extend(self.prompt_of(self.cache))
            return self._search(settings, prompt, settings.max_total(segment))

        with self._modes():
            return decode_windows(features, self.frames, settings, decode)

    @contextmanager
    def _modes(self) -> Iterator[None]:
        """No gradients. Autocast keeps its casts in no_grad and not in inference_mode (PyTorch PR 165068)."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad() if self.autocast else torch.inference_mode())
            if self.autocast:
                stack.enter_context(torch.autocast("cuda", dtype=torch.float16, cache_enabled=True))
            yield

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode to the length limit once."""
        self.generate(features, longest=True)

    def _search(self, settings: DecodingSettings, prompt: list[int], max_total: int) -> Hypothesis:
        kind = BeamSearch if settings.num_beams > 1 else GreedySearch
        search = kind(settings, self.suppression, len(prompt), max_total)
        with self.part("prefill"):
            logits = prefill(self.weights, self.cache, torch.tensor(prompt, device=self.device))
        while search.advance(logits):
            with self.part("steps"):
                logits = self._step(search.tokens, search.parents, search.length - 1)
        return self._checked(search.result())

    def _step(self, tokens: torch.Tensor, parents: torch.Tensor, position: int) -> torch.Tensor:
        """Logits (beams, V) behind `tokens` (beams,), each from the beam in `parents`."""
        self.cache.reorder(parents)
        return step(self.weights, self.cache, tokens, position)

    def _checked(self, best: Hypothesis) -> Hypothesis:
        if math.isnan(best.score):  # NaN is above all numbers for topk and argmax, so it wins and its score shows it
            raise NotANumberError(self.setting, self.autocast or self.dtype != torch.float32)
        return best

    def prompt_of(self, cache: Cache) -> list[int]:
        """The prompt for the utterance in `cache`; where the settings leave its language open it is detected, as
        transformers' `detect_language` does."""
        prompt = self.settings.prompt
        if None not in prompt:
            return [token for token in prompt if token is not None]
        start = torch.tensor([prompt[0]], device=self.device)
        logits = prefill(self.weights, cache, start)[0]
        language = int(logits.masked_fill(self.not_language, float("-inf")).argmax())
        return [language if token is None else token for token in prompt]
