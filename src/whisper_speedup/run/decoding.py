"""Result rows from an engine: one utterance at a time under the clock, or a stream of them through a batch engine.

It knows nothing of files: where audio comes from is a function's business, and so is where rows go.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import TypeVar

import torch
from transformers import WhisperTokenizer

from whisper_speedup.engines.protocol import BatchEngine, Engine, Generation, Outcome, Utterance
from whisper_speedup.errors import ClipError, EngineLost, NotANumberError, UserError
from whisper_speedup.run.messages import Decoded, Item
from whisper_speedup.run.rows import Result
from whisper_speedup.run.timed import timed

# So many clips, and every one so far, give NaN: then it is the weights and no clip's fault.
ENOUGH = 8

FeaturesOf = Callable[[Item], torch.Tensor]
Clip = TypeVar("Clip")


def one(engine: Engine, item: Item, features_of: FeaturesOf, tokenizer: WhisperTokenizer, repeats: int) -> Decoded:
    """An utterance by itself, `repeats` times under the clock; one that cannot be decoded carries its reason. Raises
    EngineLost."""
    try:
        features = _features(item, features_of)
        found = [timed(engine, features) for _ in range(repeats)]
    except EngineLost:
        raise
    except UserError as error:
        return _without(item, error)
    seconds = [one.seconds for one in found]
    return _row(item, found[0].generation, seconds, _all([one.device_seconds for one in found]), tokenizer)


def streamed(
    engine: BatchEngine, items: Iterable[Item], features_of: FeaturesOf, tokenizer: WhisperTokenizer
) -> Generator[Decoded]:
    """Utterances as they end, each decoded once. `items` is pulled in the engine's own thread. Raises EngineLost."""
    flying: dict[int, Item] = {}

    def utterances() -> Iterator[Utterance]:
        for item in items:
            flying[item.at] = item
            features = partial(_features, item, features_of)
            yield Utterance(item.at, features, item.row.duration_s, item.max_length)

    with closing(engine.decode_stream(utterances())) as outcomes:
        for at, outcome in outcomes:
            item = flying.pop(at)
            yield _outcome(item, outcome, tokenizer)


def _outcome(item: Item, outcome: Outcome, tokenizer: WhisperTokenizer) -> Decoded:
    if isinstance(outcome, UserError):
        return _without(item, outcome)
    assert outcome.seconds is not None, "a batch engine tells each utterance's seconds"
    return _row(item, outcome, [outcome.seconds], None, tokenizer)


def _features(item: Item, features_of: FeaturesOf) -> torch.Tensor:
    if item.row.error is not None:
        raise ClipError(item.row.error)
    return features_of(item)


def _without(item: Item, error: UserError) -> Decoded:
    overflow = error if isinstance(error, NotANumberError) else None
    return Decoded(item.at, Result(id=item.row.id, error=str(error)), 0.0, overflow)


def _row(
    item: Item,
    best: Generation,
    seconds: list[float],
    device_seconds: list[float] | None,
    tokenizer: WhisperTokenizer,
) -> Decoded:
    row = Result(
        id=item.row.id, tokens=best.tokens,
        text=tokenizer.decode(best.tokens, skip_special_tokens=True, normalize=True),
        raw_text=tokenizer.decode(best.tokens, skip_special_tokens=True), score=best.score, seconds=seconds,
        device_seconds=device_seconds, truncated=best.truncated, error=None,
    )  # fmt: skip
    return Decoded(item.at, row, item.row.duration_s or 0.0)


def _all(values: list[float | None]) -> list[float] | None:
    """The values when each is known, else None."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def warm_up(engine: Engine, clips: Iterable[Clip], features_of: Callable[[Clip], torch.Tensor], count: int) -> None:
    """Warm up with `count` of the clips, the first ones again where there are fewer.

    A clip that fails is left to its own row, and so is every clip when the first ones all fail.
    """
    waiting = deque(clips)
    failed = 0
    while count and waiting and failed < ENOUGH:
        clip = waiting.popleft()
        try:
            features = features_of(clip)
        except UserError:
            failed += 1
            continue
        try:
            engine.warm_up(features)
        except ClipError:
            failed += 1
            continue
        waiting.append(clip)
        count -= 1
