"""The caches as other code may use them, and the store's view of who shares an utterance."""

import copy
import pickle

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import DynamicCache, EncoderDecoderCache

from whisper_speedup import optimize_model
from whisper_speedup.optimize.states import CrossStates, SelfStates, adoptable, store_behind
from whisper_speedup.optimize.store import rows_per_utterance


def filled(beams: int = 2) -> EncoderDecoderCache:
    model = multilingual_whisper(0)
    optimize_model(model.model.decoder)
    with torch.no_grad():
        states = model.model.encoder(tiny_features(1)).last_hidden_state.repeat_interleave(beams, 0)
        tokens = torch.tensor([[2, 20, 30, 75]]).expand(beams, -1)
        return model.model.decoder(tokens, encoder_hidden_states=states, use_cache=True).past_key_values


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("a", 1), ("aaaaa", 5), ("abc", 1), ("aabbcc", 2), ("aab", 1), ("abab", 1), ("aaabbb", 3), ("abbb", 1)],
)
def test_rows_share_an_utterance_where_their_states_are_equal(rows: str, expected: int) -> None:
    states = torch.stack([torch.full((4, 3), float(ord(letter))) for letter in rows])
    assert rows_per_utterance(states) == expected


def test_states_that_differ_in_one_value_are_two_utterances() -> None:
    states = torch.zeros(2, 1500, 8)
    states[1, 1499, 7] = 1e-7
    assert rows_per_utterance(states) == 1
    assert rows_per_utterance(torch.full((2, 3, 4), float("nan"))) == 1


def test_reading_the_layers_turns_it_into_an_ordinary_cache() -> None:
    cache = filled()
    assert store_behind(cache) is not None
    keys = cache.self_attention_cache.layers[1].keys
    assert keys.shape == (2, 4, 4, 8)
    assert store_behind(cache) is None
    assert cache.self_attention_cache.store is None
    assert cache.cross_attention_cache.get_seq_length() == 20  # that half is untouched
    assert torch.equal(cache.cross_attention_cache.layers[0].keys[0], cache.cross_attention_cache.layers[0].keys[1])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_is_an_ordinary_cache_and_leaves_the_original_alone(copied: object) -> None:
    cache = filled()
    other = copied(cache)  # type: ignore[operator]
    assert type(other.self_attention_cache) is type(other.cross_attention_cache) is DynamicCache
    assert store_behind(cache) is not None
    with torch.no_grad():
        other.self_attention_cache.layers[0].keys.zero_()
    assert cache.self_attention_cache.layers[0].keys.abs().sum() > 0


def test_iterating_and_selecting_rows() -> None:
    cache = filled()
    assert len(list(cache)) == 2
    cache = filled()
    cache.batch_select_indices(torch.tensor([1]))
    assert cache.self_attention_cache.layers[0].keys.shape[0] == 1
    assert cache.cross_attention_cache.layers[0].keys.shape[0] == 1
    cache = filled()
    cache.batch_repeat_interleave(3)
    assert cache.cross_attention_cache.layers[1].values.shape == (6, 4, 20, 8)


def test_only_generates_own_empty_cache_is_filled() -> None:
    assert adoptable(EncoderDecoderCache(DynamicCache(), DynamicCache()))
    assert not adoptable(DynamicCache())
    assert not adoptable(None)
    assert not adoptable(filled())
    half = EncoderDecoderCache(DynamicCache(), DynamicCache())
    half.cross_attention_cache.update(torch.zeros(1, 4, 20, 8), torch.zeros(1, 4, 20, 8), 0)
    assert not adoptable(half)


def test_types_are_those_that_transformers_asks_for() -> None:
    cache = filled()
    assert issubclass(SelfStates, DynamicCache)
    assert issubclass(CrossStates, DynamicCache)
    cache.activate_past_recording()
    assert store_behind(cache) is not None
    assert cache.is_sliding == [False, False]
