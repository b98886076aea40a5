"""The table of every utterance, and the one of those without output."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.compare.latency import Latency
from whisper_speedup.report import numbers
from whisper_speedup.report.cards import Card, anchor

Row = dict[str, Any]


@dataclass(frozen=True)
class UtteranceTable:
    """`units` are the units of `audio_unit` and of all times; rows are dictionaries for the template."""

    audio_unit: str
    time_unit: str
    rows: list[Row]


def utterances(latency: list[Latency], baseline: str, others: list[str], made: list[Card]) -> UtteranceTable:
    """One row an utterance, in the order of the data."""
    engines = [baseline, *others]
    times = numbers.seconds_column([row.engines[engine].seconds for engine in engines for row in latency])
    audio = numbers.seconds_column([row.duration_s or None for row in latency])
    links: dict[str, list[Card]] = {}
    for card in made:
        links.setdefault(card.id, []).append(card)
    rows = []
    for number, row in enumerate(latency):
        seconds = [row.engines[engine].seconds for engine in engines]
        cells = [times.cells[place * len(latency) + number] for place in range(len(engines))]
        ratios = [
            numbers.times(seconds[0] / after if seconds[0] is not None and after is not None else None)
            for after in seconds[1:]
        ]
        texts = [row.engines[engine].text for engine in engines]
        rows.append(
            {
                "anchor": anchor("u", row.id),
                "id": row.id,
                "audio": audio.cells[number],
                "cut_from": numbers.seconds(row.cut_from_s) if row.cut_from_s is not None else None,
                "note": row.note,
                "before": cells[0],
                "after": list(zip(cells[1:], ratios, strict=True)),
                "tokens": numbers.count(row.engines[baseline].tokens),
                "text": next((text for text in texts if text is not None), None),
                "truncated": any(result.truncated for result in row.engines.values()),
                "failed": any(result.error is not None for result in row.engines.values()),
                "links": links.get(row.id, []),
            }
        )
    return UtteranceTable(audio.unit, times.unit, rows)


def failed(latency: list[Latency], labels: dict[str, str]) -> list[Row]:
    """One row for each utterance and reason, naming the engines it holds for."""
    rows = []
    for row in latency:
        reasons: dict[str, list[str]] = {}
        for engine, result in row.engines.items():
            if result.error is not None:
                reasons.setdefault(result.error, []).append(labels[engine])
        for reason, engines in reasons.items():
            everywhere = len(engines) == len(row.engines)
            rows.append(
                {
                    "id": row.id,
                    "duration": numbers.seconds(row.duration_s or None),
                    "engines": "every engine" if everywhere else ", ".join(engines),
                    "error": reason,
                }
            )
    return rows
