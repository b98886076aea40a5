"""What an engine's processes said of themselves, one a start, as one account for rounds.json."""

from collections import Counter

import numpy as np

from whisper_speedup.measure import memory
from whisper_speedup.measure.records import Sampled, Spread
from whisper_speedup.measure.sampler import KEYS
from whisper_speedup.run.rows import TurnsRecord, Waited


def together(told: list[TurnsRecord]) -> TurnsRecord:
    """One account of `told`, one a start: the first's, but the highest memory, all that was sampled, and all waiting.

    `load_s` and `warmup_s` are the first start's, which alone may have had something to compile.
    """
    waits = [one.waiting for one in told]
    return told[0].but(
        memory=memory.highest([one.memory for one in told]),
        conditions=_sampled([one.conditions for one in told]),
        waiting=Waited(seconds=sum(one.seconds for one in waits), cpu_s=sum(one.cpu_s for one in waits)),
    )


def _sampled(summaries: list[Sampled]) -> Sampled:
    """Sampler.summary() of several; a median is the median of theirs."""
    known: list[Counter[str]] = [Counter(found.throttling) for found in summaries if found.throttling is not None]
    return Sampled(
        samples=sum(found.samples for found in summaries),
        interval_s=max(found.interval_s for found in summaries),
        **{key: _spread([one for found in summaries if (one := getattr(found, key)) is not None]) for key in KEYS},
        throttling=dict(sorted(sum(known, Counter()).items())) if known else None,
    )


def _spread(spreads: list[Spread]) -> Spread | None:
    if not spreads:
        return None
    return Spread(
        min=min(spread.min for spread in spreads),
        median=float(np.median([spread.median for spread in spreads])),
        max=max(spread.max for spread in spreads),
    )
