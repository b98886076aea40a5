"""Error rates of each run: `wer` by words and, for languages written without spaces, `cer` by characters beside it."""

import numpy as np

from whisper_speedup.audio.row import Row
from whisper_speedup.compare import statistics
from whisper_speedup.compare.runs import Run
from whisper_speedup.compare.wer import WordErrors, character_errors, total, word_errors
from whisper_speedup.compare.writing import Writing
from whisper_speedup.disk.records import Facts

ByUtterance = dict[str, WordErrors]
# By what the rate is called, then by engine, then by utterance id.
Counts = dict[str, dict[str, ByUtterance]]
UNITS = {"wer": "words", "cer": "characters"}


def counts(manifest: list[Row], runs: list[Run], writing: Writing, judged: bool) -> Counts:
    """The errors of the decoded utterances that have a reference; none unless `judged`."""
    counters = {"wer": word_errors} | ({"cer": character_errors} if writing.unit == "character" else {})
    found: Counts = {key: {run.engine: {} for run in runs} for key in counters}
    for run in runs if judged else []:
        for utterance, row in zip(manifest, run.results, strict=True):
            if utterance.reference is not None and row.error is None:
                reference, heard = map(writing.normalise, (utterance.reference, row.raw_text or row.text or ""))
                for key, count in counters.items():
                    found[key][run.engine][row.id] = count(reference, heard)
    return found


def rates(counted: Counts, engine: str) -> dict[str, float | None]:
    """For metrics.json: errors over the length of the references, null where there is none."""
    sums = {key: total(list(engines[engine].values())) for key, engines in counted.items()}
    return {key: found.errors / found.words if found.words else None for key, found in sums.items()}


def differences(counted: Counts, baseline: Run, run: Run) -> Facts:
    """For the page: how much higher the engine's rates are, over the utterances that both decoded, with intervals."""
    found: Facts = {}
    for key, engines in counted.items():
        before, after = engines[baseline.engine], engines[run.engine]
        both = [name for name in before if name in after]
        more = np.array([float(after[name].errors - before[name].errors) for name in both])
        length = np.array([float(after[name].words) for name in both])
        found[f"{key}_difference"] = float(more.sum() / length.sum()) if length.sum() else None
        interval = statistics.ratio_interval(more, length)
        found[f"{key}_difference_interval"] = list(interval) if interval else None
    return found


def sums(counted: Counts) -> dict[str, dict[str, dict[str, int]]]:
    """For context.json, by rate and engine: errors of each kind, and what they are among."""
    return {
        key: {
            engine: {
                "substitutions": (one := total(list(by_utterance.values()))).substitutions,
                "insertions": one.insertions,
                "deletions": one.deletions,
                UNITS[key]: one.words,
                "utterances": len(by_utterance),
            }
            for engine, by_utterance in engines.items()
        }
        for key, engines in counted.items()
    }
