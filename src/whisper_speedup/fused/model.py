"""The fused engine's decode of one utterance: encoder, prompt, steps, beam search, and Whisper's cut at timestamps."""

import copy
import math
from dataclasses import replace

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.errors import NotANumberError
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Hypothesis, Suppression
from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.decoder import prefill, step
from whisper_speedup.fused.encoder import Encoder
from whisper_speedup.fused.segments import decode_windows
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.fused.weights import LayerStack, pack_decoder
from whisper_speedup.measure.parts import Part, unwatched


class FusedWhisper:
    """A Whisper packed for decoding one utterance at a time with fixed settings.

    Takes what it needs from a transformers model and keeps no reference to its decoder, so that the caller can free
    it. Not thread-safe: buffers are reused from one utterance to the next. `phantom_block` is phantom.py's switch.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        settings: DecodingSettings,
        device: torch.device,
        dtype: torch.dtype,
        phantom_block: int | None = None,
        stack: LayerStack | None = None,
    ) -> None:
        self.part: Part = unwatched
        self.device = device
        self.phantom_block = phantom_block
        self.dtype = dtype
        self.weights = pack_decoder(model, device, dtype, stack)
        self.encoder = Encoder(model, device, dtype)
        self.frames = model.config.max_source_positions * 2
        self._use(settings)

    def _use(self, settings: DecodingSettings) -> None:
        self.settings = settings
        self.cache = Cache(self.weights, settings.num_beams, settings.max_positions, self.phantom_block)
        self.suppression = Suppression(settings, self.device)
        not_language = torch.ones(self.weights.embedding.shape[0], dtype=torch.bool, device=self.device)
        not_language[list(settings.languages)] = False
        self.not_language = not_language

    def with_settings(self, settings: DecodingSettings) -> "FusedWhisper":
        """Another one over the same packed weights."""
        other = copy.copy(self)
        other._use(settings)
        return other

    @torch.inference_mode()
    def generate(self, features: torch.Tensor, longest: bool = False) -> Hypothesis:
        """Decode log-mel features (1, mels, frames) on the device; `longest` forbids end-of-text, for warming up."""
        settings = replace(self.settings, min_length=self.settings.max_positions) if longest else self.settings
        prompt: list[int] = []

        def decode(window: torch.Tensor, segment: int) -> Hypothesis:
            with self.part("encoder"):
                self.cache.start(self.weights, self.encoder(window))
            if not prompt:
                prompt.extend(self._prompt())
            return self._search(settings, prompt, settings.max_total(segment))

        return decode_windows(features, self.frames, settings, decode)

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
                self.cache.reorder(search.parents)
                logits = step(self.weights, self.cache, search.tokens, search.length - 1)
        best = search.result()
        if math.isnan(best.score):  # NaN is above all numbers for topk and argmax, so it wins and its score shows it
            raise NotANumberError("measure.fused.precision", self.dtype != torch.float32)
        return best

    def _prompt(self) -> list[int]:
        """The prompt, its language detected where the settings leave it open (transformers' `detect_language`)."""
        prompt = self.settings.prompt
        if None not in prompt:
            return [token for token in prompt if token is not None]
        start = torch.tensor([prompt[0]], device=self.device)
        logits = prefill(self.weights, self.cache, start)[0]
        language = int(logits.masked_fill(self.not_language, float("-inf")).argmax())
        return [language if token is None else token for token in prompt]
