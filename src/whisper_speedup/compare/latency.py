"""Each utterance's seconds, tokens and text by every engine: latency.jsonl for the page, utterances.csv for DVC."""

from whisper_speedup.audio.row import Row
from whisper_speedup.compare.runs import Run
from whisper_speedup.disk.records import Record


class Heard(Record):
    """By one engine; null but for the error where it has no output."""

    seconds: float | None = None
    tokens: int | None = None
    truncated: bool | None = None
    text: str | None = None
    error: str | None = None


class Latency(Record):
    """A row of latency.jsonl."""

    id: str
    duration_s: float | None
    cut_from_s: float | None
    reference: str | None
    error: str | None
    note: str | None = None
    engines: dict[str, Heard]


def latency(manifest: list[Row], runs: list[Run]) -> list[Latency]:
    """One row per utterance, in the manifest's order."""
    rows = []
    for number, utterance in enumerate(manifest):
        shown = utterance.model_dump(include=set(Latency.model_fields))
        rows.append(Latency(**shown, engines={run.engine: _heard(run, number) for run in runs}))
    return rows


def _heard(run: Run, number: int) -> Heard:
    row = run.results[number]
    if row.error is not None:
        return Heard(error=row.error)
    return Heard(seconds=row.median_s, tokens=len(row.tokens or []), truncated=bool(row.truncated), text=row.text)


def utterances_csv(rows: list[Latency], engines: list[str]) -> str:
    """The numbers as a table for `dvc plots` and spreadsheets: one row per utterance, one column per engine.

    Seconds; an empty cell where there is no output, and for an engine left out.
    `tokens` are the baseline's. Names and texts are not in it.
    """
    lines = [["utterance", "audio_s", "tokens", *engines]]
    for number, row in enumerate(rows, 1):
        seconds = [row.engines.get(engine, Heard()).seconds for engine in engines]
        cells = (number, row.duration_s, row.engines[engines[0]].tokens, *seconds)
        lines.append(["" if value is None else str(value) for value in cells])
    return "".join(",".join(line) + "\n" for line in lines)
