"""The part about turns: each engine's rounds drawn, both intervals, and how steady the machine was."""

from dataclasses import dataclass
from typing import Any

from whisper_speedup.report import numbers, summary
from whisper_speedup.report.charts.canvas import Drawing
from whisper_speedup.report.charts.rounds import Span
from whisper_speedup.report.charts.rounds import rounds as drawn
from whisper_speedup.report.engines import Figures

Row = dict[str, Any]


@dataclass(frozen=True)
class Rounds:
    """`sentences` say what was done and what each interval means; `table` has a row for each of `engines`; all were
    started `starts` times."""

    sentences: list[str]
    drawings: list[Drawing]
    engines: list[str]
    table: list[Figures]
    starts: int


def rounds(context: Row, metrics: Row) -> Rounds | None:
    """None for results without rounds."""
    about, baseline = context.get("rounds"), context["baseline"]
    pairs = {engine: context["comparisons"][engine] for engine in context["engines"] if engine != baseline}
    found = {engine: pair["rounds"] for engine, pair in pairs.items() if pair.get("rounds") is not None}
    if not about or not found:
        return None
    starts = int(about["rounds"].get("starts", 1))  # results from before November 2026's last week had one
    drawings = [
        drawn(
            summary.label(engine), context["engines"].index(engine), pair["speedups"], _spans(engine, metrics), starts
        )
        for engine, pair in found.items()
    ]
    return Rounds(_sentences(about, starts), drawings, [baseline, *found], _table(found, metrics, starts), starts)


def _spans(engine: str, metrics: Row) -> list[Span]:
    return [
        Span(name, metrics[f"{engine}.{key}"], metrics[f"{engine}.{key}_low"], metrics[f"{engine}.{key}_high"])
        for name, key in (("rounds", "speedup_rounds"), ("utterances", "speedup"))
    ]


def _sentences(about: Row, starts: int) -> list[str]:
    each, clips = about["rounds"]["count"], len(about["clips"])
    which = "the same utterance" if clips == 1 else f"the same {numbers.count(clips)} utterances"
    turns = f"every engine decoded {which}, one engine at a time, each in a process that stayed loaded"
    if starts == 1:
        return [
            f"In each of {numbers.count(each)} rounds {turns}.",
            "The interval over rounds is where the speed of another such run, of these utterances on this machine, is"
            " to be expected 95 times of 100 if nothing but rounds differed; starts differ too, so it falls there less"
            " often.",
            *_NEITHER,
        ]
    return [
        f"All engines were started {numbers.count(starts)} times, and after each start, in each of"
        f" {numbers.plural(each, 'round')}, {turns}.",
        "The interval over starts and their rounds is where the speed of another such run, of these utterances on this"
        " machine, is to be expected 95 times of 100.",
        *_NEITHER,
    ]


_NEITHER = [
    "The interval over utterances, from the pass over the whole set, says how far it would move with other"
    " utterances of this kind.",
    "Neither says what another machine would give.",
]


def _table(found: Row, metrics: Row, starts: int) -> list[Figures]:
    """The baseline's row first; its seconds are those of the first pair, over the clips that both decoded."""
    pairs = list(found.values())
    seconds = [pairs[0]["baseline_s"], *(pair["engine_s"] for pair in pairs)]
    middle = [sorted(part)[len(part) // 2] for part in seconds]
    column = numbers.seconds_column([*map(min, seconds), *middle, *map(max, seconds)])
    names, rows = list(found), len(seconds)

    def of(key: str) -> list[Any]:
        return [metrics[f"{name}.{key}"] for name in names]

    def intervals(key: str) -> list[str]:
        spans = zip(of(f"{key}_low"), of(f"{key}_high"), strict=True)
        return [numbers.MISSING, *(numbers.interval(low, high) for low, high in spans)]

    times = numbers.TIMES
    return [
        Figures("In turns", f"{times} baseline", [numbers.times(1.0), *map(numbers.times, of("speedup_rounds"))], True),
        Figures("95% over rounds" if starts == 1 else "95% over starts and rounds", times, intervals("speedup_rounds")),
        Figures("Same utterances, whole-set pass", times,
                [numbers.times(1.0), *(numbers.times(pair["whole_set"]) for pair in pairs)]),
        Figures("Whole set", f"{times} baseline", [numbers.times(1.0), *map(numbers.times, of("speedup"))]),
        Figures("95% over utterances", times, intervals("speedup")),
        Figures("Fastest round", column.unit, column.cells[:rows]),
        Figures("Median round", column.unit, column.cells[rows : 2 * rows]),
        Figures("Slowest round", column.unit, column.cells[2 * rows :]),
    ]  # fmt: skip
