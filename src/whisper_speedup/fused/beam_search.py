"""Beam search, equal to transformers' `_beam_search` for one utterance: same tokens, same score, same tie-breaking.

Restated from its behaviour (transformers 5.17, generation/utils.py). Two pools of `beams` hypotheses: running ones,
which the decoder extends, and finished ones. Each step keeps the 2 * beams best continuations over all beams and the
whole vocabulary, so that `beams` live ones are left even when all of the first half end.

Ties are broken as transformers breaks them because the same `topk` runs over the same numbers in the same order.
"""

import math
from dataclasses import dataclass

import torch

from whisper_speedup.fused.settings import DecodingSettings

NEVER = -1.0e9  # transformers' score for "not a candidate"


@dataclass(frozen=True)
class Hypothesis:
    """A decoded sequence: `tokens` without prompt and end-of-text, its score, and whether end-of-text ended it."""

    tokens: list[int]
    score: float
    ended: bool

    @classmethod
    def of(cls, tokens: list[int], score: float, eos: int) -> "Hypothesis":
        """From a search's tokens, end-of-text included where it ended so; one without tokens found no number."""
        ended = bool(tokens) and tokens[-1] == eos
        return cls(tokens[:-1] if ended else tokens, score if tokens else math.nan, ended)


class Suppression:
    """The tokens that may not come next, as tensors on the device."""

    def __init__(self, settings: DecodingSettings, device: torch.device) -> None:
        self.always = torch.tensor(settings.suppress, dtype=torch.int64, device=device)
        self.at_begin = torch.tensor(settings.begin_suppress, dtype=torch.int64, device=device)
        self.eos = settings.eos

    def apply(self, scores: torch.Tensor, length: int, prompt_length: int, min_length: int) -> None:
        """Set forbidden entries of scores (rows, V) to -inf in place, for sequences of `length` tokens so far.

        `prompt_length` counts in both lengths; end-of-text is forbidden below `min_length`.
        """
        if self.always.numel():
            scores.index_fill_(1, self.always, float("-inf"))
        if self.at_begin.numel() and length == prompt_length:
            scores.index_fill_(1, self.at_begin, float("-inf"))
        if length < min_length:
            scores[:, self.eos] = float("-inf")


class BeamSearch:
    """The state of one search. `tokens` and `parents` (beams,) are what the decoder runs next, and from which beam."""

    def __init__(
        self, settings: DecodingSettings, suppression: Suppression, prompt_length: int, max_total: int
    ) -> None:
        device = suppression.always.device
        beams, room = settings.num_beams, max_total - prompt_length
        self.settings = settings
        self.suppression = suppression
        self.prompt_length = prompt_length
        self.max_total = max_total
        self.length = prompt_length
        self.tokens = torch.zeros(beams, dtype=torch.int64, device=device)
        self.parents = torch.zeros(beams, dtype=torch.int64, device=device)
        # Only beam 0 counts at first, else all beams would hold the same tokens.
        self.scores = torch.full((beams,), NEVER, dtype=torch.float32, device=device)
        self.scores[0] = 0.0
        self.sequences = torch.full((beams, room), settings.eos, dtype=torch.int64, device=device)
        self.finished_scores = torch.full((beams,), NEVER, dtype=torch.float32, device=device)
        self.finished_sequences = self.sequences.clone()
        self.finished_lengths = torch.zeros(beams, dtype=torch.int64, device=device)
        self.finished = torch.zeros(beams, dtype=torch.bool, device=device)
        self.in_first_half = torch.arange(2 * beams, device=device) < beams

    def advance(self, logits: torch.Tensor) -> bool:
        """Choose the next token of every beam from logits (beams or 1, V); False when the search is over."""
        beams = self.settings.num_beams
        candidate_scores, parents, tokens = self._candidates(logits)
        at_limit = self.length + 1 >= self.max_total
        hits = tokens == self.settings.eos
        if at_limit:
            hits = torch.ones_like(hits)
        sequences = self.sequences[parents]
        generated = self.length - self.prompt_length
        sequences[:, generated] = tokens

        running_scores = candidate_scores + hits * NEVER
        chosen = running_scores.topk(beams).indices
        self._finish(candidate_scores, sequences, hits, generated + 1)
        self.sequences = sequences[chosen]
        self.scores = running_scores[chosen]
        self.tokens = tokens[chosen]
        self.parents = parents[chosen]
        self.length += 1
        return not at_limit and self._can_improve() and not bool(hits.all())

    def result(self) -> Hypothesis:
        """The best finished hypothesis."""
        length = int(self.finished_lengths[0])
        tokens = self.finished_sequences[0, :length].tolist()
        return Hypothesis.of(tokens, float(self.finished_scores[0]), self.settings.eos)

    def _candidates(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The 2 * beams best continuations, best first: accumulated scores, parent beams, tokens."""
        beams, vocabulary = self.settings.num_beams, logits.shape[1]
        scores = torch.log_softmax(logits.float(), dim=-1)
        self.suppression.apply(scores, self.length, self.prompt_length, self.settings.min_length)
        accumulated = scores.expand(beams, -1) + self.scores[:, None]
        best, index = _top(accumulated, 2 * beams)
        return best, index // vocabulary, index % vocabulary

    def _finish(self, scores: torch.Tensor, sequences: torch.Tensor, hits: torch.Tensor, generated: int) -> None:
        """Merge candidates that ended, ranks 0 to beams - 1 only, into the finished pool."""
        settings = self.settings
        ended = hits & self.in_first_half
        penalised = scores / generated**settings.length_penalty
        if settings.early_stopping is True:
            penalised = penalised + self.finished.all() * NEVER
        penalised = penalised + ~ended * NEVER
        merged_scores = torch.cat((self.finished_scores, penalised))
        keep = merged_scores.topk(settings.num_beams).indices
        self.finished_scores = merged_scores[keep]
        self.finished_sequences = torch.cat((self.finished_sequences, sequences))[keep]
        lengths = torch.full_like(scores, generated, dtype=torch.int64)
        self.finished_lengths = torch.cat((self.finished_lengths, lengths))[keep]
        self.finished = torch.cat((self.finished, ended))[keep]

    def _can_improve(self) -> bool:
        """transformers' stop test, after a step: may a running beam still beat the worst finished one?"""
        settings = self.settings
        if settings.early_stopping is True and bool(self.finished.all()):
            return False
        if settings.early_stopping == "never" and settings.length_penalty > 0.0:
            length = self.max_total - self.prompt_length
        else:
            length = self.length - self.prompt_length
        best = self.scores[0] / length**settings.length_penalty
        worst = torch.where(self.finished, self.finished_scores.min(), NEVER)
        return bool((best > worst).any())


def _top(scores: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `keep` largest of scores (beams, V) and their flat indices, as topk over the flat tensor gives them.

    One topk a row takes less than half the time. It decides the same way unless two of the best are equal, and then
    topk's order among equals, which transformers inherits, is only to be had from the same call.
    """
    best, tokens = scores.topk(min(keep + 1, scores.shape[1]), dim=1)
    merged, order = best.view(-1).sort(descending=True)
    if bool((merged[:keep] == merged[1 : keep + 1]).any()):
        return scores.view(-1).topk(keep)
    order = order[:keep]
    rows = order // best.shape[1]
    return merged[:keep], rows * scores.shape[1] + tokens.view(-1)[order]


class GreedySearch:
    """One beam: transformers takes the likeliest token and stops at the first end-of-text."""

    def __init__(
        self, settings: DecodingSettings, suppression: Suppression, prompt_length: int, max_total: int
    ) -> None:
        self.settings = settings
        self.suppression = suppression
        self.prompt_length = prompt_length
        self.max_total = max_total
        self.length = prompt_length
        self.sequence: list[int] = []
        self.log_probability = 0.0
        self.tokens = torch.zeros(1, dtype=torch.int64, device=suppression.always.device)
        self.parents = torch.zeros_like(self.tokens)

    def advance(self, logits: torch.Tensor) -> bool:
        """Take the likeliest token of logits (1, V); False when the search is over."""
        scores = logits.float()
        normaliser = scores.logsumexp(dim=-1)
        scores = scores.clone() if scores.data_ptr() == logits.data_ptr() else scores
        self.suppression.apply(scores, self.length, self.prompt_length, self.settings.min_length)
        self.tokens = scores.argmax(dim=-1)
        token = int(self.tokens)
        self.log_probability += float(scores[0, token] - normaliser)
        self.sequence.append(token)
        self.length += 1
        return token != self.settings.eos and self.length < self.max_total

    def result(self) -> Hypothesis:
        """The one hypothesis, scored as a beam's would be."""
        score = self.log_probability / len(self.sequence) ** self.settings.length_penalty
        return Hypothesis.of(self.sequence, score, self.settings.eos)
