"""What makes two runs hard to compare: another machine, other clocks, another prompt. Each is one sentence."""

from collections.abc import Iterator
from typing import Any

from whisper_speedup.compare.runs import Run

# Clocks this close are the same clocks. A CPU's is read at one moment, over all its cores, and so wanders more.
TOLERANCE = {"sm_mhz": 0.05, "memory_mhz": 0.05, "cpu_mhz": 0.10}
BUSY = 1.5  # a load of this many times the cores: something else ran beside the measurement
_NAMED_AT_MOST = 4


def warnings(runs: list[Run]) -> list[str]:
    """Sentences for the reader, each about one run or about one run against the first (the baseline)."""
    found = [sentence for run in runs for sentence in _alone(run)]
    return found + [sentence for run in runs[1:] for sentence in _against(runs[0], run)]


def _alone(run: Run) -> Iterator[str]:
    """`conditions` holds a reading `before` the utterances and one `after`; a value is None where it is unknown."""
    reasons = sorted({reason for reading in _readings(run) for reason in reading.get("throttling") or []})
    if reasons:
        yield f"The GPU was throttled while {run.engine} ran ({', '.join(reasons)})."
    cores = (run.about.get("environment") or {}).get("cpu_cores")
    load = _highest(run, "load_1min")
    if cores and load is not None and load > BUSY * cores:
        yield f"The machine was busy with other work while {run.engine} ran (a load of {load} on {cores} cores)."


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
    if run.about.get("prompt") != baseline.about.get("prompt"):
        yield f"{pair} were prompted differently ({run.about.get('prompt')} against {baseline.about.get('prompt')})."
    clocks = []
    for key, tolerance in TOLERANCE.items():
        ours, theirs = _highest(run, key), _highest(baseline, key)
        if ours is not None and theirs is not None and abs(ours - theirs) > tolerance * max(ours, theirs):
            clocks.append(f"{key} {ours} against {theirs}")
    if clocks:
        yield f"{pair} ran at different clocks ({_some(clocks)})."


def _readings(run: Run) -> list[dict[str, Any]]:
    """Of the process that ended the run, and of those before it that were interrupted."""
    earlier = [session.get("conditions") for session in run.about.get("resumed_from") or []]
    found = [*(run.about.get("conditions") or {}).values(), *earlier]
    return [reading for reading in found if isinstance(reading, dict)]


def _highest(run: Run, key: str) -> float | None:
    """The highest reading: a processor that waits lowers its clock, and that is not the clock it ran at."""
    return max((reading[key] for reading in _readings(run) if reading.get(key) is not None), default=None)


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
