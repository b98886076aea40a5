"""What the rounds say of the speedup: a ratio for each round, and an interval over rounds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from whisper_speedup.compare import statistics
from whisper_speedup.compare.runs import Inputs, Run
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.disk.records import Record
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import RoundsParams
from whisper_speedup.run.rows import RoundsRecord, Turn


@dataclass(frozen=True)
class Rounds:
    """rounds.json, and the seconds of each engine: shape (rounds of all starts, clips), NaN where a clip has no
    output."""

    about: RoundsRecord
    seconds: dict[str, statistics.Array]


class InRounds(Record):
    """For the page: what an engine's speedup in the rounds comes from, over the `clips` that both always decoded.

    `baseline_s` and `engine_s` are sums over those clips, one a round, `speedups` their ratios in the order of time,
    and `whole_set` is the speedup of the same clips in the pass over the whole set.
    """

    clips: int
    baseline_s: list[float]
    engine_s: list[float]
    speedups: list[float]
    interval: tuple[float, float] | None
    whole_set: float | None


def read_rounds(folder: Path, inputs: Inputs, profile_name: str) -> Rounds | None:
    """What the stage `rounds` left in `folder`; None where the profile has none, or the stage never ran.

    Raises UserError for files that are damaged or were made from other data, other weights or another profile.
    """
    if not folder.is_dir():
        return None
    again = "run dvc repro to let the engines take turns again."
    content = read_json(folder / "rounds.json")
    try:
        about = RoundsRecord.model_validate(content)
    except ValidationError:
        raise _damaged(folder / "rounds.json", again) from None
    if about.profile != profile_name:
        raise UserError(f"{folder} says it is another profile's: {again}")
    if about.rounds is None:
        return None
    if about.data_sha256 != inputs.data_sha256:
        raise UserError(f"{folder} was made from other data than the manifest of {profile_name}: {again}")
    if about.weights_sha256 != inputs.model.weights_sha256:
        raise UserError(f"{folder} was made with other weights than model.json of {profile_name}: {again}")
    return Rounds(about, _seconds(folder / "rounds.jsonl", about, about.rounds, again))


def against_rounds(rounds: Rounds | None, baseline: Run, run: Run) -> tuple[dict[str, float | None], InRounds | None]:
    """For metrics.json the speedup in the rounds and its interval over rounds; for the page, what they come from.

    The speedup is the median of the rounds' own. Work of others slows one engine in one round and then lets go: a sum
    over rounds would be moved by it, and its interval too narrow. The interval is where another run's median would
    fall, for that is what a reader compares it with (docs/clock.md has both, and what repeated runs gave); starts are
    drawn, and the rounds of each.
    """
    nothing: dict[str, float | None] = dict.fromkeys(("speedup_rounds", "speedup_rounds_low", "speedup_rounds_high"))
    if rounds is None or rounds.about.rounds is None or not {baseline.engine, run.engine} <= set(rounds.seconds):
        return nothing, None
    before, after = rounds.seconds[baseline.engine], rounds.seconds[run.engine]
    both: npt.NDArray[np.bool_] = np.asarray(~np.isnan(before + after).any(axis=0))
    if not both.any():
        return nothing, None
    before, after = before[:, both].sum(axis=1), after[:, both].sum(axis=1)
    interval = statistics.repeat_interval((before / after).reshape(rounds.about.rounds.starts, -1))
    clips = {clip for clip, kept in zip(rounds.about.clips, both, strict=True) if kept}
    return {
        "speedup_rounds": float(np.median(before / after)),
        "speedup_rounds_low": interval[0] if interval else None,
        "speedup_rounds_high": interval[1] if interval else None,
    }, InRounds(
        clips=len(clips), baseline_s=before.tolist(), engine_s=after.tolist(), speedups=(before / after).tolist(),
        interval=interval, whole_set=_whole_set(baseline, run, clips),
    )  # fmt: skip


def _whole_set(baseline: Run, run: Run, clips: set[str]) -> float | None:
    pairs = [(a, b) for a, b in zip(baseline.results, run.results, strict=True) if a.id in clips]
    if any(a.error is not None or b.error is not None for a, b in pairs):
        return None
    return sum(a.median_s for a, _ in pairs) / sum(b.median_s for _, b in pairs)


def _seconds(path: Path, about: RoundsRecord, asked: RoundsParams, again: str) -> dict[str, statistics.Array]:
    try:
        turns = [Turn.model_validate(row) for row in read_jsonl(path)]
        clips = {clip: place for place, clip in enumerate(about.clips)}
        each, count = asked.count, asked.starts * asked.count
        found = {engine: np.full((count, len(clips)), np.nan) for engine in about.engines}
        seen = set()
        for turn in turns:
            place = (turn.engine, turn.round, turn.clip)
            misplaced = not 1 <= turn.round <= count or turn.start != (turn.round - 1) // each + 1
            if place in seen or misplaced or (turn.seconds is not None and turn.seconds <= 0):
                raise ValueError
            seen.add(place)
            if turn.seconds is not None:
                found[turn.engine][turn.round - 1, clips[turn.clip]] = turn.seconds
        if len(seen) != len(found) * count * len(clips):
            raise ValueError
    except (KeyError, TypeError, ValueError, ValidationError):
        raise _damaged(path, again) from None
    return found


def _damaged(path: Path, again: str) -> UserError:
    return UserError(f"{path} does not hold every engine's every turn as this version writes it: {again}")
