"""The kernels' beam search behind a decoder in plain torch: candidates from logits, then kernels/beam_update.py.

What the vocabulary kernel does over tiles of the vocabulary, without writing logits, is here a few torch operations on
logits that are there: one tile as wide as the vocabulary.
"""

import torch

from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.device_decoder import vocabulary_rules
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.beam_state import BeamState
from whisper_speedup.kernels.beam_update import beam_update, read_hypothesis
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.kernels.vocabulary import END_OF_TEXT, LOWEST, SUPPRESSED, SUPPRESSED_AT_BEGIN


class DeviceSearch:
    """One search's state on the device. Nothing here waits for it but `result`."""

    def __init__(self, settings: DecodingSettings, vocabulary: int, device: torch.device) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.state = BeamState(settings.max_positions, device)
        rules = vocabulary_rules(settings, vocabulary, device)
        self.always = rules & SUPPRESSED != 0
        self.at_begin = rules & SUPPRESSED_AT_BEGIN != 0
        self.end_of_text = rules & END_OF_TEXT != 0
        self.peak = torch.zeros(1, ROWS, dtype=torch.float32, device=device)
        self.norm = torch.zeros_like(self.peak)
        self.candidates = torch.zeros(1, ROWS, 2 * settings.num_beams, dtype=torch.int64, device=device)

    def choose(self, logits: torch.Tensor, prompt_length: int, max_total: int, min_length: int) -> None:
        """Choose the next tokens from logits (beams or 1, V); changes nothing once the search is over."""
        settings, state, rows = self.settings, self.state, logits.shape[0]
        scores = logits.float()
        peak = scores.amax(dim=1, keepdim=True)
        self.peak[0, :rows] = peak[:, 0]
        self.norm[0, :rows] = (scores - peak).exp().sum(dim=1)
        forbidden = self.always | (self.at_begin & (state.length == prompt_length))
        forbidden |= self.end_of_text & (state.length < min_length)
        best, tokens = scores.masked_fill(forbidden, float("-inf")).topk(self.candidates.shape[2], dim=1)
        self.candidates[0, :rows] = pack_candidates(best, tokens)
        beam_update(
            state, self.peak, self.norm, self.candidates, rows, settings.num_beams, self.vocabulary, prompt_length,
            max_total, settings.eos, settings.length_penalty, settings.early_stopping,
        )  # fmt: skip

    def result(self) -> Hypothesis:
        """The best finished hypothesis; its score is NaN where the logits were. Waits for the device."""
        tokens, score = read_hypothesis(self.state)
        return Hypothesis.of(tokens, score, self.settings.eos)


def pack_candidates(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The vocabulary kernel's pack_candidate: int64 that compare as (score descending, token ascending)."""
    bits = scores.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    packed = (ordered.long() << 32) | (0x7FFFFFFF - tokens)
    return packed.masked_fill_(scores == float("-inf"), LOWEST.value)
