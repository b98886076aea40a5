"""What an engine's processes said of themselves, one a start, as one account for rounds.json."""

from collections import Counter
from typing import Any

import numpy as np

from whisper_speedup.measure import memory
from whisper_speedup.measure.sampler import KEYS

Row = dict[str, Any]


def together(told: list[Row]) -> Row:
    """One account of `told`, one a start: the first's, but the highest memory, all that was sampled, and all waiting.

    `load_s` and `warmup_s` are the first start's, which alone may have had something to compile.
    """
    return {
        **told[0],
        "memory": memory.highest([one["memory"] for one in told]),
        "conditions": _sampled([one["conditions"] for one in told]),
        "waiting": {key: sum(one["waiting"][key] for one in told) for key in told[0]["waiting"]},
    }


def _sampled(summaries: list[Row]) -> Row:
    """Sampler.summary() of several; a median is the median of theirs."""
    known: list[Counter[str]] = [Counter(found["throttling"]) for found in summaries if found["throttling"] is not None]
    return {
        "samples": sum(found["samples"] for found in summaries),
        "interval_s": max(found["interval_s"] for found in summaries),
        **{key: _spread([found[key] for found in summaries if found[key] is not None]) for key in KEYS},
        "throttling": dict(sorted(sum(known, Counter()).items())) if known else None,
    }


def _spread(spreads: list[Row]) -> Row | None:
    if not spreads:
        return None
    return {
        "min": min(spread["min"] for spread in spreads),
        "median": float(np.median([spread["median"] for spread in spreads])),
        "max": max(spread["max"] for spread in spreads),
    }
