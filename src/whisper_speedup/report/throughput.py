"""The section about many utterances at once: the whole set's time, each worker's part, and what others published."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.report import numbers, published, summary
from whisper_speedup.report.charts.bars import BarTable, Segment, bar
from whisper_speedup.report.charts.canvas import Drawing
from whisper_speedup.report.charts.scaling import scaling
from whisper_speedup.report.engines import Figures
from whisper_speedup.report.numbers import MISSING

Row = dict[str, Any]
SHOWN = 16  # workers of an engine


@dataclass(frozen=True)
class Record:
    """A row of the table beside what others published. `apart`: in what it cannot be compared."""

    name: str
    source: str | None
    utterances_per_s: str
    rtfx: str
    apart: str


@dataclass(frozen=True)
class Throughput:
    """`table` has a row for each of `engines`; `shares` and `workers` are bars; `records` begin with this run's."""

    engines: list[str]
    table: list[Figures]
    shares: BarTable | None
    workers: list[BarTable]
    drawing: Drawing | None
    records: list[Record]
    notes: list[str]


def throughput(context: Row, metrics: Row, curve: list[Row]) -> Throughput | None:
    """None for a run of one worker and one utterance at a time. `curve`: rows of runs on more and more workers."""
    engines = [engine for engine in context["engines"] if metrics.get(f"{engine}.utterances_per_s")]
    many = [engine for engine in engines if summary.is_batched(context, engine) or metrics[f"{engine}.workers"] > 1]
    if not many and not curve:
        return None
    places = summary.places(context)
    return Throughput(
        engines,
        _table(context, metrics, engines),
        _shares(metrics, engines, places),
        [_workers(engine, context, places) for engine in many if len(context["runs"][engine]["workers"]) > 1],
        scaling(curve) if curve else None,
        _records(context, metrics, engines),
        _notes(context, engines),
    )


def _table(context: Row, metrics: Row, engines: list[str]) -> list[Figures]:
    def of(key: str) -> list[Any]:
        return [metrics[f"{engine}.{key}"] for engine in engines]

    rates = of("utterances_per_s")
    whole = numbers.seconds_column([metrics["utterances"] / rate for rate in rates])
    notebook = numbers.seconds_column([published.UTTERANCES / rate for rate in rates])
    at_once = [numbers.count(_at_once(context["runs"][engine])) for engine in engines]
    return [
        Figures("Workers", "", [numbers.count(count) for count in of("workers")]),
        Figures("At once", "utterances", at_once),
        Figures("Rate", "utterances a second", numbers.number_column(rates).cells, strong=True),
        Figures("RTFx, all counted", f"{numbers.TIMES} real time", numbers.number_column(of("wall_rtfx")).cells),
        Figures(f"This set of {numbers.count(metrics['utterances'])}", whole.unit, whole.cells),
        Figures(f"At this rate, {numbers.count(published.UTTERANCES)}", notebook.unit, notebook.cells),
    ]


def _at_once(run: Row) -> int:
    """Utterances in flight: the slots of all workers that came to their end."""
    slots = [(worker.get("stream") or {}).get("slots") for worker in run["workers"] if worker.get("lost") is None]
    return sum(int(count or 1) for count in slots)


def _shares(metrics: Row, engines: list[str], places: dict[str, int]) -> BarTable | None:
    told = [engine for engine in engines if metrics[f"{engine}.encoder_share"] is not None]
    rows = []
    for engine in told:
        share = metrics[f"{engine}.encoder_share"]
        drawn = bar([Segment("part0", share), Segment("part2", 1 - share)], 1.0)
        cells = [f"{100 * part:.0f}" for part in (share, 1 - share)]
        rows.append((f"c{places[engine]}", summary.label(engine), drawn, cells))
    caption = (
        "Of the time that an engine spent in encoder and decoder. For engines that decode one utterance at a time it is"
        " that of a few utterances, and the decoder's share counts the search and the host."
    )
    columns = [("part0", "Encoder"), ("part2", "Decoder")]
    return BarTable("Encoder and decoder", caption, "%", columns, rows) if rows else None


def _workers(engine: str, context: Row, places: dict[str, int]) -> BarTable:
    """Each worker's part of one engine's run."""
    every = sorted(context["runs"][engine]["workers"], key=lambda one: (one["worker"], one["lost"] is None))
    found = every[:SHOWN]
    rates = [one["utterances"] / one["busy_s"] if one["busy_s"] else None for one in found]
    speeds = [one["audio_s"] / one["busy_s"] if one["busy_s"] else None for one in found]
    busy = numbers.seconds_column([one["busy_s"] for one in found])
    cells = zip(numbers.number_column(rates).cells, numbers.number_column(speeds).cells, busy.cells, strict=True)
    most = max(one["utterances"] for one in found) or 1
    rows = []
    for one, (rate, speed, seconds) in zip(found, cells, strict=True):
        name = f"{one['worker']}, {one['device_name']}{', lost' if one['lost'] else ''}"
        drawn = bar([Segment(f"c{places[engine]}", one["utterances"])], most)
        rows.append((f"c{places[engine]}", name, drawn, [numbers.count(one["utterances"]), seconds, rate, speed]))
    head = [("", "Utterances"), ("", f"Busy, {busy.unit}"), ("", "Utterances a second"), ("", "RTFx")]
    caption = (
        "Busy is from a worker's first utterance to its last. Each has a GPU, or a share of the cores, of its own."
    )
    more = [f"{numbers.count(len(every) - SHOWN)} more are in context.json."] if len(every) > SHOWN else []
    return BarTable(f"{summary.label(engine)}, worker by worker", caption, "", head, rows, notes=more, head="Worker")


def _records(context: Row, metrics: Row, engines: list[str]) -> list[Record]:
    ours = [
        Record(
            f"{summary.label(engine)} here",
            None,
            numbers.ratio(metrics[f"{engine}.utterances_per_s"]),
            numbers.ratio(metrics[f"{engine}.wall_rtfx"]),
            f"{context['model']['name']}, {numbers.plural(metrics[f'{engine}.workers'], 'worker')} on"
            f" {context['runs'][engine]['device_name']}",
        )
        for engine in engines
    ]
    notebook = published.UTTERANCES / published.TOTAL_S
    return [
        *ours,
        Record("Kernl's notebook", published.SOURCE, numbers.ratio(notebook), MISSING,
               f"{published.MODEL}, {published.DATA}, one utterance at a time with 5 beams; the sum of its utterances'"
               f" times on an {published.HARDWARE}, reading and features not counted"),
        Record("MLPerf Inference v5.1, Whisper, offline", published.MLPERF,
               numbers.ratio(published.MLPERF_UTTERANCES_PER_S), MISSING,
               "whisper-large-v3, 1 beam; LibriSpeech's two dev sets joined to samples of nearly 30 s, several times as"
               " long as an utterance of test-clean; one H200"),
        Record("Open ASR leaderboard", published.OPEN_ASR, MISSING, numbers.ratio(published.OPEN_ASR_RTFX),
               f"{published.MODEL}, several English test sets; an utterance longer than LibriSpeech's costs less a"
               " second, for every one is padded to 30 s"),
    ]  # fmt: skip


def _notes(context: Row, engines: list[str]) -> list[str]:
    notes = [
        "The two public records are quoted as this project was given them, and were not read from their tables.",
        "A rate counts everything from the first utterance handed out to the last row on the disk, reading audio and"
        " making features too; starting workers, loading and warming up are not in it.",
    ]
    if any(summary.is_batched(context, engine) for engine in engines):
        notes.append(
            "Where many utterances are in flight, an utterance's own seconds are shared with the others: such an"
            " engine's total above is the set's, times the number of workers; its speed has no interval, and no drawing"
            " of single utterances has it."
        )
    if any(context["runs"][engine].get("resumed_from") for engine in engines):
        notes.append("A run was interrupted: its rate is that of its last process.")
    if any(worker["lost"] for engine in engines for worker in context["runs"][engine]["workers"]):
        notes.append("A worker was lost on the way; what it had not finished was decoded by others.")
    return notes
