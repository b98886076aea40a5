"""What makes two runs hard to compare: another machine, other clocks, another prompt. Each is one sentence."""

from collections.abc import Iterator
from typing import Any

from whisper_speedup.compare.runs import Run

CLOCK_TOLERANCE = 0.05  # clocks within 5% of each other are the same clocks
_NAMED_AT_MOST = 4


def warnings(runs: list[Run]) -> list[str]:
    """Sentences for the reader, each about one run or about one run against the first (the baseline)."""
    baseline = runs[0]
    found: list[str] = []
    for run in runs:
        throttled = [key for key, value in _flat(run.about.get("conditions")) if "throttl" in key and value]
        if throttled:
            found.append(f"{run.engine} ran while the processor was throttled ({_some(throttled)}).")
    for run in runs[1:]:
        found.extend(_against(baseline, run))
    return found


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
    before, after = dict(_flat(baseline.about.get("conditions"))), dict(_flat(run.about.get("conditions")))
    for key in sorted(set(before) & set(after)):
        a, b = before[key], after[key]
        if _is_clock(key) and isinstance(a, int | float) and isinstance(b, int | float) and _apart(a, b):
            clocks.append(f"{key} {b} against {a}")
    if clocks:
        yield f"{pair} ran at different clocks ({_some(clocks)})."


def _is_clock(key: str) -> bool:
    return any(word in key for word in ("clock", "mhz", "power_limit"))


def _apart(a: float, b: float) -> bool:
    return abs(a - b) > CLOCK_TOLERANCE * max(abs(a), abs(b))


def _differing(a: Any, b: Any) -> list[str]:
    before, after = dict(_flat(a)), dict(_flat(b))
    return [
        f"{key} {after.get(key)} against {before.get(key)}"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries, with dotted keys; a list is a leaf."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, value


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED_AT_MOST} more" if len(items) > _NAMED_AT_MOST else ""
    return ", ".join(items[:_NAMED_AT_MOST]) + more
