"""What makes two runs hard to compare: another machine, other clocks, another prompt. Each is one sentence.

Other data or other weights are no matter of warning: runs.py and rounds.py refuse them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from whisper_speedup.compare.rounds import InRounds, Rounds
from whisper_speedup.compare.runs import Run
from whisper_speedup.disk.records import Facts
from whisper_speedup.measure.records import Reading, Sampled
from whisper_speedup.run.rows import RunRecord, TurnsRecord

# Clocks whose medians are this close are the same clocks. A CPU's is a mean over all its cores, and so wanders more.
TOLERANCE = {"sm_mhz": 0.05, "memory_mhz": 0.05, "cpu_mhz": 0.10}
BUSY = 0.25  # of the cores, at the median, worked on something else
BUSY_LOAD = 1.5  # where that is not known: a load of this many times the cores
_NAMED_AT_MOST = 4


@dataclass(frozen=True)
class Seen:
    """The machine as a run saw it: single readings, of the process that ended it and of those before it that were
    interrupted, and what was sampled meanwhile."""

    environment: Facts
    readings: list[Reading]
    during: Sampled | None

    def clock(self, key: str) -> float | None:
        """The median over the run; where nothing was sampled the highest reading, for a processor that waits lowers
        it."""
        sampled = getattr(self.during, key, None)
        return float(sampled.median) if sampled else self.highest(key)

    def highest(self, key: str) -> float | None:
        """Of the readings; None where it is unknown."""
        return max((value for reading in self.readings if (value := getattr(reading, key)) is not None), default=None)


def of_run(about: RunRecord) -> Seen:
    """As run.json has it."""
    earlier = [session.conditions for session in about.resumed_from or [] if session.conditions is not None]
    own = about.conditions
    return Seen(about.environment, [own.before, own.after, *earlier], own.during)


def of_turns(about: TurnsRecord) -> Seen:
    """As rounds.json has it."""
    return Seen(about.environment, [], about.conditions)


def warnings(runs: list[Run]) -> list[str]:
    """Sentences for the reader, each about one run or about one run against the first (the baseline)."""
    found = [sentence for run in runs for sentence in _alone(run.engine, of_run(run.about), "ran")]
    return found + [sentence for run in runs[1:] for sentence in _against(runs[0], run)]


def round_warnings(runs: list[Run], rounds: Rounds | None, found: Mapping[str, InRounds | None]) -> list[str]:
    """The same for the rounds, and where they contradict the runs; `found` is each engine's comparison over rounds."""
    return list(_rounds(runs, rounds, found)) if rounds is not None else []


def _rounds(runs: list[Run], rounds: Rounds, found: Mapping[str, InRounds | None]) -> Iterator[str]:
    turns, baseline = rounds.about.engines, runs[0]
    for run in runs:
        if run.engine not in turns:
            why = rounds.about.left_out.get(run.engine)
            yield f"{run.engine} took no turns in the rounds{f': {why}' if why else '.'}"
            continue
        about = turns[run.engine]
        yield from _alone(run.engine, of_turns(about), "took its turns")
        if run is not baseline and baseline.engine in turns:
            pair = f"{run.engine} and {baseline.engine}"
            yield from _clocks(pair, of_turns(about), of_turns(turns[baseline.engine]), "took their turns")
        for key, words in (("environment", "another environment"), ("settings", "other settings"),
                           ("threads", "another number of threads")):  # fmt: skip
            other = _differing({key: getattr(run.about, key)}, {key: getattr(about, key)})
            if other:
                yield f"{run.engine} took its turns with {words} than it ran with before ({_some(other)})."
    for engine, pair_found in found.items():
        sentence = _contradicted(engine, pair_found)
        if sentence:
            yield sentence


def _contradicted(engine: str, found: InRounds | None) -> str | None:
    """The two ways of measuring look at the same clips, so one outside the other's interval is the machine's doing."""
    if found is None or found.whole_set is None or found.interval is None:
        return None
    low, high = found.interval
    if low <= found.whole_set <= high:
        return None
    return (
        f"On the clips of the rounds, {engine} was {found.whole_set:.2f} times as fast as the baseline when each"
        f" engine decoded the whole set by itself, and {low:.2f} to {high:.2f} times when they took turns: the machine"
        " was not the same for both runs."
    )


def _alone(engine: str, seen: Seen, did: str) -> Iterator[str]:
    during = seen.during
    counts: dict[str, int | None] = {reason: None for one in seen.readings for reason in one.throttling or []}
    counts |= (during.throttling if during else None) or {}
    if counts:
        of = f" of {during.samples} samples" if during else ""
        said = [reason if count is None else f"{reason} in {count}{of}" for reason, count in sorted(counts.items())]
        yield f"The GPU was throttled while {engine} {did} ({', '.join(said)})."
    cores, load = seen.environment.get("cpu_cores"), seen.highest("load_1min")
    others = during.others_cores if during else None
    if not isinstance(cores, int):
        return
    if others and others.median > BUSY * cores:
        what = f"{others.median:.1f} of {cores} cores at the median, {others.max:.1f} at most"
        yield f"The machine was busy with other work while {engine} {did} ({what})."
    elif not others and load is not None and load > BUSY_LOAD * cores:
        yield f"The machine was busy with other work while {engine} {did} (a load of {load} on {cores} cores)."


def _against(baseline: Run, run: Run) -> Iterator[str]:
    pair = f"{run.engine} and {baseline.engine}"
    ours, theirs = run.about, baseline.about
    other = _differing(theirs.environment, ours.environment)
    if other:
        yield f"{pair} ran in different environments ({_some(other)})."
    for key, words in (("device", "devices"), ("device_name", "devices"), ("threads", "numbers of threads")):
        if getattr(ours, key) != getattr(theirs, key):
            yield f"{pair} ran on different {words} ({getattr(ours, key)} against {getattr(theirs, key)})."
            break
    if ours.features != theirs.features:
        what = f"measure.features {ours.features} against {theirs.features}"
        yield f"{pair} were given features that were computed elsewhere ({what})."
    if ours.prompt != theirs.prompt:
        yield f"{pair} were prompted differently ({ours.prompt} against {theirs.prompt})."
    yield from _clocks(pair, of_run(ours), of_run(theirs), "ran")


def _clocks(pair: str, ours: Seen, theirs: Seen, did: str) -> Iterator[str]:
    clocks = []
    for key, tolerance in TOLERANCE.items():
        a, b = ours.clock(key), theirs.clock(key)
        if a is not None and b is not None and abs(a - b) > tolerance * max(a, b):
            clocks.append(f"{key} {a:.0f} against {b:.0f}")
    if clocks:
        yield f"{pair} {did} at different clocks ({_some(clocks)})."


def _differing(a: JsonValue, b: JsonValue) -> list[str]:
    before, after = dict(_flat(a)), dict(_flat(b))
    return [
        f"{key} {after.get(key)} against {before.get(key)}"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key)
    ]


def _flat(value: JsonValue, prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The leaves of nested dictionaries and lists, with dotted keys."""
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value)}
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, value


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED_AT_MOST} more" if len(items) > _NAMED_AT_MOST else ""
    return ", ".join(items[:_NAMED_AT_MOST]) + more
