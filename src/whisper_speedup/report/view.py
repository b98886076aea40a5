"""What the template shows: the numbers of the small files, chosen, ordered and put into words. No markup here."""

from typing import Any

from whisper_speedup.params import ReportParams
from whisper_speedup.report import numbers, plots, published, summary
from whisper_speedup.report.align import align, words_apart

Row = dict[str, Any]


def view(context: Row, metrics: Row, differences: list[Row], latency: list[Row], settings: ReportParams) -> Row:
    """The template's variables. `context`, `metrics` and the rows are as `compare` writes them."""
    engines: list[str] = context["engines"]
    baseline: str = context["baseline"]
    others = [engine for engine in engines if engine != baseline]
    labels = {engine: summary.label(engine) for engine in engines}
    first = others[0]
    cards, hidden = _cards(differences, labels, baseline, settings.max_differences)
    sentences = [
        summary.speed(metrics, context, first),
        summary.outputs(metrics, context, first),
        summary.word_errors(metrics, context, first),
        summary.memory(metrics, context, first),
    ]
    speedup = metrics[f"{first}.speedup"]
    run = context["runs"][baseline]
    return {
        "title": settings.title,
        "subject": summary.subject(context),
        "subtitle": " · ".join(
            [context["model"]["name"], run["device_name"], numbers.plural(len(latency), "utterance")]
        ),
        "headline": numbers.times(speedup) if speedup is not None else None,
        "headline_interval": (metrics[f"{first}.speedup_low"], metrics[f"{first}.speedup_high"]),
        "headline_words": f"the speed of {labels[baseline]}" if speedup is not None else None,
        "sentences": [sentence for sentence in sentences if sentence],
        "notices": summary.notices(metrics, context, latency),
        "claims": _claims(context, metrics, first),
        "engines": [_engine(context, metrics, engine) for engine in engines],
        "labels": labels,
        "baseline": baseline,
        "others": others,
        "first": first,
        "cards": cards,
        "cards_hidden": hidden,
        "differing": {engine: _differing(context, metrics, engine) for engine in others},
        "failed": _failed(latency, labels),
        "utterances": _utterances(latency, baseline, others, cards),
        "plots": _plots(context, metrics, latency, labels),
        "published": published,
        "context": context,
        "environment": _flat(context["environment"]),
        "conditions": _conditions(context),
        "wer": context["wer"],
    }


def _claims(context: Row, metrics: Row, engine: str) -> list[tuple[str, str, str, str, str]]:
    """Rows of (what, baseline here, engine here, the notebook's baseline, the notebook's Kernl)."""
    baseline, pair = context["baseline"], context["comparisons"][engine]
    n, total = published.UTTERANCES, pair["utterances"]
    low, high = metrics[f"{engine}.speedup_low"], metrics[f"{engine}.speedup_high"]
    interval = f" ({numbers.interval(low, high)})" if low is not None else ""
    key = "peak_reserved_bytes" if metrics[f"{baseline}.peak_reserved_bytes"] is not None else "process_peak_bytes"

    def mean(seconds: float | None) -> str:
        return numbers.seconds(seconds / total if seconds is not None and total else None)

    def both(name: str, form: Any) -> tuple[str, str]:
        return form(metrics[f"{baseline}.{name}"]), form(metrics[f"{engine}.{name}"])

    different, before_s, after_s = metrics[f"{engine}.different"], pair["baseline_total_s"], pair["total_s"]
    share = f" ({numbers.percent(different / total)})" if total else ""
    theirs_s, kernl_s, once = published.BASELINE_TOTAL_S, published.TOTAL_S, f"1{numbers.TIMES}"
    devices = [context["runs"][name]["device_name"] for name in (baseline, engine)]
    speed = f"{numbers.times(metrics[f'{engine}.speedup'])}{interval}"
    model, peak = context["model"]["name"], f"{numbers.size(published.PEAK_RESERVED_BYTES)}, both in one process"
    seconds, none = numbers.seconds, numbers.MISSING
    return [
        ("Speed, sum over all utterances", once, speed, once, f"{published.SPEEDUP}{numbers.TIMES}"),
        ("Compute time, sum", seconds(before_s), seconds(after_s), seconds(theirs_s), seconds(kernl_s)),
        ("Compute time, mean", mean(before_s), mean(after_s), seconds(theirs_s / n), seconds(kernl_s / n)),
        ("Outputs that differ", none, f"{numbers.count(different)} of {numbers.count(total)}{share}", none,
         f"{published.DIFFERENT} of {numbers.count(n)} ({numbers.percent(published.DIFFERENT / n)})"),
        ("Word error rate", *both("wer", numbers.percent), "not given", "not given"),
        ("Warm-up", *both("warmup_s", seconds), "not given", seconds(published.WARMUP_S)),
        (f"Peak memory, {'GPU' if key == 'peak_reserved_bytes' else 'process'}", *both(key, numbers.size),
         "not given", peak),
        ("Model", model, model, published.MODEL, published.MODEL),
        ("Hardware", *devices, published.HARDWARE, published.HARDWARE),
        ("Utterances", *[numbers.count(total)] * 2, *[numbers.count(n)] * 2),
    ]  # fmt: skip


def _engine(context: Row, metrics: Row, engine: str) -> Row:
    """One engine's line in the two tables of engines; `m` are its metrics."""
    m = {key.removeprefix(f"{engine}."): value for key, value in metrics.items() if key.startswith(f"{engine}.")}
    run = context["runs"][engine]
    return {
        "name": engine,
        "label": summary.label(engine),
        "m": {"speedup": None, "different": None, "different_tokens": None} | m,
        "interval": numbers.interval(m.get("speedup_low"), m.get("speedup_high")),
        "run": run,
        "wer": context["wer"].get(engine),
        "compared": context["comparisons"].get(engine, {}).get("utterances"),
        "settings": ", ".join(f"{key} {_plain(value)}" for key, value in sorted(run["settings"].items())),
    }


def _differing(context: Row, metrics: Row, engine: str) -> str:
    return f"{summary.label(engine)}: {summary.outputs(metrics, context, engine)}"


def _cards(differences: list[Row], labels: dict[str, str], baseline: str, limit: int) -> tuple[list[Row], int]:
    """The differing outputs, the furthest apart first and those of equal text last, and how many are left out."""
    cards = []
    for row in differences:
        plain = row["same_text"] and row["baseline_raw_text"] != row["raw_text"]
        left, right = (row["baseline_raw_text"], row["raw_text"]) if plain else (row["baseline_text"], row["text"])
        pieces = align(left or "", right or "")
        cards.append(
            {
                "row": row,
                "label": labels[row["engine"]],
                "pieces": pieces,
                "words": words_apart(pieces),
                "unnormalised": plain,
                "what": _what(row, words_apart(pieces), plain),
                "judge": _judge(row, labels[baseline], labels[row["engine"]]),
                "tokens": _parting(row, labels[baseline], labels[row["engine"]]),
                "scores": [
                    (labels[baseline], row["scores"]["baseline"]),
                    (labels[row["engine"]], row["scores"][row["engine"]]),
                ],
                "cut": [
                    name
                    for name, key in ((labels[baseline], "baseline"), (labels[row["engine"]], row["engine"]))
                    if row["truncated"][key]
                ],
            }
        )
    cards.sort(key=lambda card: (card["row"]["same_text"], -card["words"]))  # stable: then the manifest's order
    for number, card in enumerate(cards[:limit], 1):
        card["anchor"] = f"difference-{number}"
    return cards[:limit], max(0, len(cards) - limit)


def _what(row: Row, words: int, plain: bool) -> str:
    if not row["same_text"]:
        return f"{numbers.plural(words, 'word')} {'differs' if words == 1 else 'differ'}"
    return "same normalised text, other punctuation or case" if plain else "same text from other tokens"


def _judge(row: Row, baseline: str, engine: str) -> str | None:
    before, after = row["baseline_word_errors"], row["word_errors"]
    if before is None:
        return None
    if before == after:
        return f"equally far: {numbers.plural(before, 'word error')} each"
    closer, other = (engine, baseline) if after < before else (baseline, engine)
    return f"{closer} is closer: {numbers.plural(min(before, after), 'word error')}, {other} {max(before, after)}"


def _parting(row: Row, baseline: str, engine: str) -> str | None:
    position = row["first_divergence"]
    if position is None:
        return None

    def token(tokens: list[int]) -> str:
        return f"id {tokens[position]}" if position < len(tokens) else "the end"

    return (
        f"at generated token {position + 1}: {token(row['baseline_tokens'])} ({baseline}),"
        f" {token(row['tokens'])} ({engine})"
    )


def _failed(latency: list[Row], labels: dict[str, str]) -> list[Row]:
    """One row for each utterance and reason, naming the engines it holds for."""
    rows = []
    for row in latency:
        reasons: dict[str, list[str]] = {}
        for engine, result in row["engines"].items():
            if result["error"] is not None:
                reasons.setdefault(result["error"], []).append(labels[engine])
        for reason, engines in reasons.items():
            everywhere = len(engines) == len(row["engines"])
            rows.append(
                {
                    "id": row["id"],
                    "duration_s": row["duration_s"] or None,
                    "engines": "every engine" if everywhere else ", ".join(engines),
                    "error": reason,
                }
            )
    return rows


def _utterances(latency: list[Row], baseline: str, others: list[str], cards: list[Row]) -> list[Row]:
    links: dict[str, list[Row]] = {}
    for card in cards:
        links.setdefault(card["row"]["id"], []).append(card)
    rows = []
    for row in latency:
        before = row["engines"][baseline]
        texts = [row["engines"][engine]["text"] for engine in [baseline, *others]]
        cells = []
        for engine in others:
            after = row["engines"][engine]
            known = before["seconds"] is not None and after["seconds"] is not None
            cells.append((after["seconds"], before["seconds"] / after["seconds"] if known else None))
        rows.append(
            {
                "id": row["id"],
                "duration_s": row["duration_s"] or None,  # 0 when the audio could not be read
                "cut_from_s": row["cut_from_s"],
                "before_s": before["seconds"],
                "after": cells,
                "tokens": before["tokens"],
                "truncated": any(result["truncated"] for result in row["engines"].values()),
                "text": next((text for text in texts if text is not None), None),
                "failed": any(result["error"] is not None for result in row["engines"].values()),
                "links": links.get(row["id"], []),
            }
        )
    return rows


def _plots(context: Row, metrics: Row, latency: list[Row], labels: dict[str, str]) -> list[plots.Plot]:
    engines, baseline = context["engines"], context["baseline"]
    on_gpu = any(metrics[f"{engine}.peak_reserved_bytes"] is not None for engine in engines)
    key = "peak_reserved_bytes" if on_gpu else "process_peak_bytes"
    what = (
        "Peak of the GPU memory that PyTorch reserved, each engine in a process of its own."
        if on_gpu
        else "Peak memory of the whole process, Python and PyTorch included, each engine in a process of its own."
    )
    drawn = [
        plots.distribution(latency, engines, labels),
        plots.scatter(latency, baseline, [engine for engine in engines if engine != baseline], labels),
        plots.memory({labels[engine]: metrics[f"{engine}.{key}"] for engine in engines}, what),
    ]
    return [plot for plot in drawn if plot is not None]


def _conditions(context: Row) -> Row:
    """`columns` name the readings that any run has, `rows` are each engine's cells, before then after."""
    known = {
        "cpu_mhz": "CPU clock, MHz",
        "load_1min": "Load, 1 min",
        "sm_mhz": "GPU clock, MHz",
        "memory_mhz": "GPU memory clock, MHz",
        "power_w": "Power, W",
        "temperature_c": "Temperature, °C",
    }
    readings = {
        engine: [(context["runs"][engine].get("conditions") or {}).get(when) or {} for when in ("before", "after")]
        for engine in context["engines"]
    }
    keys = [key for key in known if any(r.get(key) is not None for pair in readings.values() for r in pair)]
    rows = [
        (
            summary.label(engine),
            [" then ".join(numbers.MISSING if r.get(key) is None else str(r[key]) for r in pair) for key in keys],
        )
        for engine, pair in readings.items()
    ]
    return {"columns": [known[key] for key in keys], "rows": rows}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries and lists as (dotted key, text) pairs."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        pairs = {str(number): item for number, item in enumerate(value)}.items()
    else:
        return [(prefix, numbers.size(value) if prefix.endswith("_bytes") else _plain(value))]
    return [row for key, inner in pairs for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def _plain(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
