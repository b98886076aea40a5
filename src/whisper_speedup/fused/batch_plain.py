"""Slots in plain torch, for a CPU and for fp32: the products of all slots' beams together, the rest slot by slot.

Each slot has its own cache and its own search, the very ones of one utterance at a time, so that what a slot gives is
what model.py gives but for the rounding of products with more rows.
"""

import time
from typing import Any

import torch

from whisper_speedup.fused.batch_stream import Ended, StreamTimes, limit_of
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Hypothesis
from whisper_speedup.fused.cache import Cache
from whisper_speedup.fused.decoder import batch_step, prefill
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.measure.clock import synchronize


class PlainSlots:
    """`count` slots over the weights of `whisper`, which also decodes what no slot can: a second window."""

    encode_count = 1
    deciding = 1

    def __init__(self, whisper: FusedWhisper, count: int) -> None:
        self.whisper, self.settings, self.count = whisper, whisper.settings, count
        settings = self.settings
        self.caches = [
            Cache(whisper.weights, settings.num_beams, settings.max_total(0)) for _ in range(count)
        ]  # fmt: skip
        self.use(count)

    def use(self, utterances: int) -> None:
        """See Slots."""
        self.searches: dict[int, Any] = {}
        self.over: list[Ended] = []
        self.times = StreamTimes()

    @torch.inference_mode()
    def encode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """See Slots: encoder states (source positions, d)."""
        begin = self._now()
        states = [self.whisper.encoder(one.to(self.whisper.device)) for one in features]
        self.times.encoder_s += self._now() - begin
        return states

    @torch.inference_mode()
    def start(self, slot: int, encoded: torch.Tensor, max_length: int | None = None) -> None:
        """See Slots: the prompt runs at once, by itself."""
        begin = self._now()
        whisper, settings, cache = self.whisper, self.settings, self.caches[slot]
        cache.start(whisper.weights, encoded)
        self.times.encoder_s += self._now() - begin
        begin = self._now()
        prompt = whisper.prompt_of(cache)
        kind = BeamSearch if settings.num_beams > 1 else GreedySearch
        search = kind(settings, whisper.suppression, len(prompt), limit_of(settings, len(prompt), max_length))
        logits = prefill(whisper.weights, cache, torch.tensor(prompt, device=whisper.device))
        self.searches[slot] = search
        self._advance(slot, logits)
        self.times.decoder_s += self._now() - begin

    @torch.inference_mode()
    def step(self) -> None:
        """See Slots."""
        begin = self._now()
        slots, beams = list(self.searches), self.settings.num_beams
        if slots:
            searches = [self.searches[slot] for slot in slots]
            caches = [self.caches[slot] for slot in slots]
            for cache, search in zip(caches, searches, strict=True):
                cache.reorder(search.parents)
            tokens = torch.cat([search.tokens for search in searches])
            logits = batch_step(self.whisper.weights, caches, tokens, [search.length - 1 for search in searches])
            for row, slot in enumerate(slots):
                self._advance(slot, logits[row * beams : (row + 1) * beams])
            self.times.steps += 1
        self.times.decoder_s += self._now() - begin

    def ended(self) -> list[Ended]:
        """See Slots."""
        over, self.over = self.over, []
        return over

    def single(self, features: torch.Tensor) -> Hypothesis:
        """See Slots."""
        return self.whisper.generate(features.to(self.whisper.device))

    def _advance(self, slot: int, logits: torch.Tensor) -> None:
        search = self.searches[slot]
        if not search.advance(logits):
            self.over.append(Ended(slot, search.result()))
            del self.searches[slot]

    def _now(self) -> float:
        synchronize(self.whisper.device)
        return time.perf_counter()
