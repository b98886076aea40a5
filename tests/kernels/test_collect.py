"""Many searches at once: each ends as it would alone, and leaves its result for the host."""

from collections.abc import Callable

import pytest
import torch
from beam_search_oracle import random_language

from tests.kernels.test_beam_update import EOS, LOWEST, PROMPT, VOCABULARY, tiles_of
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch, Suppression
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.beam_state import BatchState
from whisper_speedup.kernels.beam_update import beam_update
from whisper_speedup.kernels.collect import collect, collect_reference

TILE = 16
Language = Callable[[list[list[int]]], torch.Tensor]


def settings_of(beams: int, limit: int) -> DecodingSettings:
    return DecodingSettings(
        prompt=tuple(PROMPT), num_beams=beams, max_new_tokens=limit, min_length=1, length_penalty=1.0,
        early_stopping=False, eos=EOS, suppress=(6, 7), begin_suppress=(9, EOS), languages=(), timestamp_begin=10**6,
        max_positions=64,
    )  # fmt: skip


def alone(settings: DecodingSettings, logits_of: Language, limit: int) -> tuple[list[int], float]:
    """What the torch search finds, end-of-text included."""
    kind = BeamSearch if settings.num_beams > 1 else GreedySearch
    search = kind(settings, Suppression(settings, torch.device("cpu")), len(PROMPT), limit)
    running = [PROMPT]
    while search.advance(logits_of(running)):
        base = running * settings.num_beams if len(running) == 1 else running
        pairs = zip(search.parents.tolist(), search.tokens.tolist(), strict=True)
        running = [[*base[parent], token] for parent, token in pairs]
    best = search.result()
    return best.tokens + ([EOS] if best.ended else []), best.score


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_searches_side_by_side(device: torch.device, beams: int) -> None:
    """One begins two steps late, one has a limit of its own, one never begins; the prompt takes as many steps as it
    must, and in rows that hold none of its last token logits are nonsense."""
    settings = settings_of(beams, 8)
    languages = [random_language(10 + slot, VOCABULARY, 0.0) for slot in range(3)]
    limits = [settings.max_total(0), settings.max_total(0), len(PROMPT) + 3]
    first_row = (len(PROMPT) - 1) % beams
    state = BatchState(4, settings.max_positions, device)
    tiles = -(-VOCABULARY // TILE)
    peak, norm = torch.zeros(4, tiles, 8), torch.zeros(4, tiles, 8)
    candidates = torch.full((4, tiles, 8, 2 * beams), LOWEST, dtype=torch.int64)
    running: dict[int, list[list[int]]] = {}
    ended: dict[int, int] = {}
    for step in range(1, 30):
        for slot in (0, 2) if step == 1 else (1,) if step == 3 else ():
            state.start(slot, len(PROMPT), first_row, limits[slot])
            running[slot] = [PROMPT] * beams
        for slot, sequences in running.items():
            logits = languages[slot](sequences)
            begins = int(state.length[slot]) == len(PROMPT)
            if begins:
                logits[[row for row in range(beams) if row != first_row]] = float("nan")
            forbidden = set(settings.suppress) | (set(settings.begin_suppress) if begins else set())
            clean = logits.nan_to_num(nan=0.0) if begins else logits
            peak[slot], norm[slot], candidates[slot] = tiles_of(clean, forbidden, 2 * beams, TILE)
            if begins:
                peak[slot, :, [row for row in range(beams) if row != first_row]] = float("nan")
        before = state.length.tolist()
        left = [part.to(device) for part in (peak, norm, candidates)]
        beam_update(
            state, *left, beams, beams, VOCABULARY, len(PROMPT), settings.max_total(0), EOS, 1.0, False, 4,
            first_row=first_row, limits=state.limits,
        )  # fmt: skip
        collect(state, 4)
        for slot in list(running):
            length = int(state.length[slot])
            if length > before[slot]:
                parents = state.history[slot, 1, length - 1 - len(PROMPT), :beams].tolist()
                tokens = state.tokens[slot, :beams].tolist()
                running[slot] = [[*running[slot][p], t] for p, t in zip(parents, tokens, strict=True)]
            if int(state.host_ended[slot]):
                ended[slot] = int(state.host_ended[slot])
                assert ended[slot] == step
                del running[slot]
        if len(ended) == 3:
            break
    assert sorted(ended) == [0, 1, 2]
    assert not int(state.host_ended[3])
    for slot in range(3):
        tokens, score = alone(settings, languages[slot], limits[slot])
        length = int(state.host_lengths[slot])
        assert state.host_tokens[slot, :length].tolist() == tokens
        assert float(state.host_scores[slot]) == pytest.approx(score, rel=3e-6, abs=1e-5)
        assert collect_reference(state, slot) == (tokens, float(state.host_scores[slot]))


def test_a_result_is_left_once(device: torch.device) -> None:
    state = BatchState(2, 16, device)
    state.start(1, 3, 0, 16)
    state.done[1] = 1
    collect(state, 2)
    assert state.host_ended.tolist() == [0, 1]
    state.host_ended[1] = 0
    collect(state, 2)
    assert state.host_ended.tolist() == [0, 0]
    state.idle()
    assert int(state.clock) == 0
