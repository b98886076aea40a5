"""What stands behind the numbers: conditions, settings, launch configurations, environment."""

from typing import Any

from whisper_speedup.report import numbers, summary

Row = dict[str, Any]
READINGS = {
    "cpu_mhz": "CPU clock, MHz",
    "others_cores": "Cores on other work",
    "load_1min": "Load, 1 min",
    "sm_mhz": "GPU clock, MHz",
    "memory_mhz": "GPU memory clock, MHz",
    "power_w": "Power, W",
    "temperature_c": "Temperature, °C",
    "throttling": "Throttled by",
}
SINGLE = "Read just before the first timed utterance, then just after the last."
SAMPLED = (
    "Median over the run, in brackets the least and the most where they differ, read four times a second. Cores on"
    " other work: how many of the machine's cores did what no process of the engine asked for."
)


def conditions(context: Row, metrics: Row) -> Row:
    """`columns` name the readings that any run has, `rows` are each engine's cells, `note` says how to read them."""
    told = [(summary.label(engine), context["runs"][engine].get("conditions") or {}) for engine in context["engines"]]
    turns = (context.get("rounds") or {}).get("engines") or {}
    told += [(f"{summary.label(engine)}, in turns", {"during": turns[engine].get("conditions")})
             for engine in context["engines"] if engine in turns]  # fmt: skip
    # The load of a minute counts the engine's own threads: it stands in only where others' work is not known.
    apart = any((found.get("during") or {}).get("others_cores") for _, found in told)
    shown = [key for key in READINGS if not (apart and key == "load_1min")]
    cells = [(name, {key: _cell(found, key) for key in shown}) for name, found in told]
    keys = [key for key in shown if any(row[key] is not None for _, row in cells)]
    rows = [(name, [numbers.MISSING if row[key] is None else row[key] for key in keys]) for name, row in cells]
    columns = [READINGS[key] for key in keys]
    shares = [_device_share(metrics, engine) for engine in context["engines"]]
    if any(share is not None for share in shares):
        columns.append("Seconds by the GPU, % of the host's")
        column = numbers.number_column(shares, decimals=1).cells
        column += [numbers.MISSING] * (len(rows) - len(column))  # the rows of the turns
        rows = [(name, [*row, share]) for (name, row), share in zip(rows, column, strict=True)]
    sampled = any(found.get("during") for _, found in told)
    return {"columns": columns, "rows": rows, "note": SAMPLED if sampled else SINGLE}


def _cell(found: Row, key: str) -> str | None:
    """What was sampled during the run; where nothing was, the reading before it and the one after. None: unknown."""
    during = found.get("during") or {}
    value = during.get(key)
    if key == "throttling" and value is not None:
        return ", ".join(f"{reason} ({count} of {during['samples']})" for reason, count in value.items()) or "none"
    if value is not None:
        low, middle, high = (_number(value[part]) for part in ("min", "median", "max"))
        return middle if low == high else f"{middle} ({low} to {high})"
    pair = [(found.get(when) or {}).get(key) for when in ("before", "after")]
    return None if pair == [None, None] else " then ".join(map(_reading, pair))


def _number(value: float) -> str:
    return numbers.count(round(value)) if abs(value) >= 100 else f"{value:g}"


def _device_share(metrics: Row, engine: str) -> float | None:
    device, host = metrics.get(f"{engine}.device_total_s"), metrics[f"{engine}.total_s"]
    return None if device is None or not host else 100 * device / host


def _reading(value: Any) -> str:
    if value is None:
        return numbers.MISSING
    if isinstance(value, int | float) and not isinstance(value, bool):
        return numbers.count(value) if isinstance(value, int) else str(value)
    return plain(value)


def engines(context: Row) -> list[Row]:
    """How each engine ran; `settings` without the launch configuration, which has rows of its own in `launch`."""
    rows = []
    for engine in context["engines"]:
        run = context["runs"][engine]
        settings = {key: value for key, value in run["settings"].items() if key != "launch"}
        launch = run["settings"].get("launch")
        rows.append(
            {
                "label": summary.label(engine),
                "run": run,
                "settings": ", ".join(f"{key} {text}" for key, text in flat(dict(sorted(settings.items())))),
                "launch": flat(launch) if launch else [],
            }
        )
    return rows


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries and lists as (dotted key, text) pairs."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        pairs = {str(number): item for number, item in enumerate(value)}.items()
    else:
        return [(prefix, numbers.size(value) if prefix.endswith("_bytes") else plain(value))]
    return [row for key, inner in pairs for row in flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def plain(value: Any) -> str:
    """A value as a reader would write it."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
