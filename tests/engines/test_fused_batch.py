"""fused_batch behind BatchEngine: what one at a time gives, in whatever order; faults that stay where they are."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.test_fused import CPU, MEASURE
from tests.fused.test_device_decoder import plain_tiny_whisper
from tests.tiny_whisper import multilingual_whisper, tiny_features, tiny_whisper
from whisper_speedup.engines.create import create
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.fused_batch import HELD, FusedBatch, FusedBatchParams
from whisper_speedup.engines.protocol import BatchEngine, Generation, Utterance
from whisper_speedup.errors import ClipError, EngineLost, NotANumberError, UserError
from whisper_speedup.params.profile import GenerationParams


def generation(num_beams: int, **more: Any) -> GenerationParams:
    return GenerationParams(
        **{"num_beams": num_beams, "max_length": 20, "min_length": 1, "length_penalty": 1.0, "early_stopping": False,
           "language": "en", "task": "transcribe", **more}
    )  # fmt: skip


def both(model: Any, asked: GenerationParams, slots: int = 3) -> tuple[Fused, FusedBatch]:
    one = Fused(FusedParams(precision="float32", tune="never"))
    many = FusedBatch(FusedBatchParams(precision="float32", slots=slots))
    for engine in (one, many):
        engine.use(model, asked, CPU)
    return one, many


def stream(count: int, **changes: Any) -> Iterator[Utterance]:
    for index in range(count):
        yield replace(Utterance(index, lambda seed=index: tiny_features(seed), float(index % 5)), **changes)


def same(found: Any, expected: Generation) -> None:
    assert isinstance(found, Generation)
    assert (found.tokens, found.truncated) == (expected.tokens, expected.truncated)
    assert found.score == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("asked", [{}, {"length_penalty": 0.6, "early_stopping": True}, {"early_stopping": "never"}])
def test_twelve_utterances_through_three_slots(beams: int, asked: dict[str, Any]) -> None:
    if beams == 1 and asked:
        pytest.skip("a greedy search has neither setting")
    lengths = set()
    for seed in (6, 13):
        one, many = both(plain_tiny_whisper(seed), generation(beams, **asked))
        found = dict(many.decode_stream(stream(12)))
        assert sorted(found) == list(range(12))
        for index, outcome in found.items():
            same(outcome, one.generate(tiny_features(index)))
            assert isinstance(outcome, Generation)
            lengths.add(len(outcome.tokens))
            assert outcome.seconds is not None
            assert outcome.seconds > 0
    assert len(lengths) > 2, "long and short ones, so that slots are filled again at different steps"


def test_it_is_a_batch_engine_from_a_folder(tmp_path: Path) -> None:
    tiny_whisper(1).save_pretrained(tmp_path)
    engine = create("fused_batch", MEASURE)
    assert isinstance(engine, BatchEngine)
    engine.load(tmp_path, generation(2), CPU)
    engine.warm_up(tiny_features(1))
    alone = engine.generate(tiny_features(3))
    assert (engine.name, engine.dtype, engine.prompt) == ("fused_batch", "float32", [2])
    assert engine.settings == {"precision": "float32", "slots": 3, "path": "plain torch"}
    found = dict(engine.decode_stream(stream(5)))
    same(found[3], alone)
    summary = engine.stream_summary()
    assert (summary["utterances"], summary["slots"]) == (5, 3)
    assert 0 < summary["encoder_s"] + summary["decoder_s"] <= summary["seconds"]
    assert summary["steps"] < 5 * 20, "utterances share steps"
    engine.close()


def test_faults_stay_with_their_utterances() -> None:
    one, many = both(tiny_whisper(2), generation(3))

    def broken() -> torch.Tensor:
        raise ClipError("it cannot be read: leave it out.")

    utterances = list(stream(7))
    utterances[2] = replace(utterances[2], features=lambda: tiny_features(2) * float("nan"))
    utterances[4] = replace(utterances[4], features=broken)
    found = dict(many.decode_stream(utterances))
    assert isinstance(found[2], NotANumberError)
    assert "measure.fused_batch.precision" in found[2].setting
    assert str(found[4]) == "it cannot be read: leave it out."
    for index in (0, 1, 3, 5, 6):
        same(found[index], one.generate(tiny_features(index)))
    with pytest.raises(NotANumberError):
        many.generate(tiny_features(2) * float("nan"))


@pytest.mark.parametrize("error", [EngineLost("the disk is gone."), OSError("the disk is gone.")])
def test_what_ends_the_stream(error: Exception) -> None:
    one, many = both(tiny_whisper(2), generation(2))

    def lost() -> torch.Tensor:
        raise error

    with pytest.raises(type(error), match="the disk is gone"):
        list(many.decode_stream(replace(one, features=lost) if one.index == 3 else one for one in stream(9)))
    same(dict(many.decode_stream(stream(2)))[1], one.generate(tiny_features(1)))


def test_leaving_early_drops_what_is_in_flight() -> None:
    one, many = both(tiny_whisper(2), generation(2))
    running = many.decode_stream(stream(9))
    next(running)
    running.close()
    found = dict(many.decode_stream(stream(4)))
    assert sorted(found) == list(range(4))
    same(found[0], one.generate(tiny_features(0)))


def test_memory_is_bounded() -> None:
    """However many there are: those in slots, those that wait, and a few on their way."""
    _, many = both(tiny_whisper(2), generation(1, max_length=2), slots=2)
    alive = most = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def utterances() -> Iterator[Utterance]:
        for index in range(400):
            held = Counted()

            def features(held: Counted = held) -> torch.Tensor:
                made = tiny_features(1)
                made.held = held  # type: ignore[attr-defined]
                return made

            yield Utterance(index, features)
            del held, features

    gc.collect()
    assert sum(1 for _ in many.decode_stream(utterances())) == 400
    assert most <= HELD + 2 * many.slots.count + 8


def test_an_utterance_may_have_a_limit_of_its_own() -> None:
    _, many = both(tiny_whisper(0), generation(2))
    found = dict(many.decode_stream(stream(4, max_length=3)))
    assert all(isinstance(one, Generation) and len(one.tokens) <= 3 for one in found.values())
    assert any(isinstance(one, Generation) and one.truncated for one in found.values())


def test_longer_features_and_second_windows_are_decoded_alone() -> None:
    """Two windows of audio, and a window that is cut at two timestamps in a row, as one at a time does."""
    model = tiny_whisper(23, vocabulary=60, timestamps=True)
    one, many = both(model, generation(2, max_length=5))
    inputs = [torch.cat((tiny_features(1), tiny_features(2)), dim=-1), *(tiny_features(seed) for seed in range(20, 40))]
    found = dict(many.decode_stream(Utterance(i, lambda each=each: each) for i, each in enumerate(inputs)))
    lengths = []
    for index, features in enumerate(inputs):
        expected = one.generate(features)
        same(found[index], expected)
        lengths.append(len(expected.tokens))
    assert max(lengths) > 5, "one at least has a second window"
    [(_, alone)] = many.decode_stream([Utterance(0, lambda: inputs[0] * float("nan"))])
    assert isinstance(alone, NotANumberError)
    assert alone.setting == "measure.fused_batch.precision"


def test_the_language_is_detected_where_it_is_left_open() -> None:
    one, many = both(multilingual_whisper(4), generation(2, language=None, task=None, max_length=6))
    assert None in many.prompt
    found = dict(many.decode_stream(stream(4)))
    for index, outcome in found.items():
        same(outcome, one.generate(tiny_features(index)))


def test_half_is_refused_on_a_cpu(tmp_path: Path) -> None:
    engine = FusedBatch(FusedBatchParams(precision="half", slots=2))
    with pytest.raises(UserError, match=r"measure\.fused_batch\.precision is half, which needs a GPU"):
        engine.load(tmp_path, generation(2), CPU)
