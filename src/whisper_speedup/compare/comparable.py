"""What makes two runs hard to compare: another machine, other clocks, another prompt. Each is one sentence.

Other data or other weights are no matter of warning: runs.py and rounds.py refuse them.
"""

from collections.abc import Iterator
from typing import Any

from whisper_speedup.compare.rounds import Rounds
from whisper_speedup.compare.runs import Run

# Clocks whose medians are this close are the same clocks. A CPU's is a mean over all its cores, and so wanders more.
TOLERANCE = {"sm_mhz": 0.05, "memory_mhz": 0.05, "cpu_mhz": 0.10}
BUSY = 0.25  # of the cores, at the median, worked on something else
BUSY_LOAD = 1.5  # where that is not known: a load of this many times the cores
_NAMED_AT_MOST = 4


def warnings(runs: list[Run]) -> list[str]:
    """Sentences for the reader, each about one run or about one run against the first (the baseline)."""
    found = [sentence for run in runs for sentence in _alone(run.engine, run.about, "ran")]
    return found + [sentence for run in runs[1:] for sentence in _against(runs[0], run)]


def round_warnings(runs: list[Run], rounds: Rounds | None, found: dict[str, Any]) -> list[str]:
    """The same for the rounds, and where they contradict the runs; `found` is each engine's comparison over rounds."""
    return list(_rounds(runs, rounds, found)) if rounds is not None else []


def _rounds(runs: list[Run], rounds: Rounds, found: dict[str, Any]) -> Iterator[str]:
    turns, baseline = rounds.about["engines"], runs[0]
    for run in runs:
        if run.engine not in turns:
            why = rounds.about.get("left_out", {}).get(run.engine)
            yield f"{run.engine} took no turns in the rounds{f': {why}' if why else '.'}"
            continue
        about = {**turns[run.engine], "conditions": {"during": turns[run.engine].get("conditions")}}
        yield from _alone(run.engine, about, "took its turns")
        if run is not baseline and baseline.engine in turns:
            theirs = {"conditions": {"during": turns[baseline.engine].get("conditions")}}
            pair = f"{run.engine} and {baseline.engine}"
            yield from _clocks(pair, about, theirs, "took their turns")
        for key, words in (("environment", "another environment"), ("settings", "other settings"),
                           ("threads", "another number of threads")):  # fmt: skip
            other = _differing({key: run.about.get(key)}, {key: about.get(key)})
            if other:
                yield f"{run.engine} took its turns with {words} than it ran with before ({_some(other)})."
    for engine, pair_found in found.items():
        sentence = _contradicted(engine, pair_found)
        if sentence:
            yield sentence


def _contradicted(engine: str, found: dict[str, Any] | None) -> str | None:
    """The two ways of measuring look at the same clips, so one outside the other's interval is the machine's doing."""
    if not found or found["whole_set"] is None or found["interval"] is None:
        return None
    low, high = found["interval"]
    if low <= found["whole_set"] <= high:
        return None
    return (
        f"On the clips of the rounds, {engine} was {found['whole_set']:.2f} times as fast as the baseline when each"
        f" engine decoded the whole set by itself, and {low:.2f} to {high:.2f} times when they took turns: the machine"
        " was not the same for both runs."
    )


def _alone(engine: str, about: dict[str, Any], did: str) -> Iterator[str]:
    """`conditions` holds a reading `before` the utterances, one `after`, and what was sampled `during` them; a value
    is None where it is unknown."""
    during = (about.get("conditions") or {}).get("during") or {}
    reasons = {reason: None for reading in _readings(about) for reason in reading.get("throttling") or []}
    reasons |= during.get("throttling") or {}
    if reasons:
        of = f" of {during['samples']} samples" if during else ""
        said = [reason if count is None else f"{reason} in {count}{of}" for reason, count in sorted(reasons.items())]
        yield f"The GPU was throttled while {engine} {did} ({', '.join(said)})."
    cores = (about.get("environment") or {}).get("cpu_cores")
    others, load = during.get("others_cores"), _highest(about, "load_1min")
    if cores and others and others["median"] > BUSY * cores:
        what = f"{others['median']:.1f} of {cores} cores at the median, {others['max']:.1f} at most"
        yield f"The machine was busy with other work while {engine} {did} ({what})."
    elif cores and not others and load is not None and load > BUSY_LOAD * cores:
        yield f"The machine was busy with other work while {engine} {did} (a load of {load} on {cores} cores)."


def _against(baseline: Run, run: Run) -> Iterator[str]:
    pair = f"{run.engine} and {baseline.engine}"
    other = _differing(baseline.about.get("environment"), run.about.get("environment"))
    if other:
        yield f"{pair} ran in different environments ({_some(other)})."
    for key, words in (("device", "devices"), ("device_name", "devices"), ("threads", "numbers of threads")):
        ours, theirs = run.about.get(key), baseline.about.get(key)
        if ours != theirs:
            yield f"{pair} ran on different {words} ({ours} against {theirs})."
            break
    ours, theirs = run.about.get("features"), baseline.about.get("features")
    if ours != theirs:
        yield f"{pair} were given features that were computed elsewhere (measure.features {ours} against {theirs})."
    if run.about.get("prompt") != baseline.about.get("prompt"):
        yield f"{pair} were prompted differently ({run.about.get('prompt')} against {baseline.about.get('prompt')})."
    yield from _clocks(pair, run.about, baseline.about, "ran")


def _clocks(pair: str, ours: dict[str, Any], theirs: dict[str, Any], did: str) -> Iterator[str]:
    clocks = []
    for key, tolerance in TOLERANCE.items():
        a, b = _clock(ours, key), _clock(theirs, key)
        if a is not None and b is not None and abs(a - b) > tolerance * max(a, b):
            clocks.append(f"{key} {a:.0f} against {b:.0f}")
    if clocks:
        yield f"{pair} {did} at different clocks ({_some(clocks)})."


def _clock(about: dict[str, Any], key: str) -> float | None:
    """The median over the run; where nothing was sampled the highest reading, for a processor that waits lowers it."""
    sampled = ((about.get("conditions") or {}).get("during") or {}).get(key)
    return float(sampled["median"]) if sampled else _highest(about, key)


def _readings(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Single readings, of the process that ended the run and of those before it that were interrupted."""
    earlier = [session.get("conditions") for session in about.get("resumed_from") or []]
    own = about.get("conditions") or {}
    found = [*(own.get(when) for when in ("before", "after")), *earlier]
    return [reading for reading in found if isinstance(reading, dict)]


def _highest(about: dict[str, Any], key: str) -> float | None:
    return max((reading[key] for reading in _readings(about) if reading.get(key) is not None), default=None)


def _differing(a: Any, b: Any) -> list[str]:
    before, after = dict(_flat(a)), dict(_flat(b))
    return [
        f"{key} {after.get(key)} against {before.get(key)}"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
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
