"""What stands behind the numbers: conditions, settings, launch configurations, environment."""

from typing import Any

from whisper_speedup.report import numbers, summary

Row = dict[str, Any]
READINGS = {
    "cpu_mhz": "CPU clock, MHz",
    "load_1min": "Load, 1 min",
    "sm_mhz": "GPU clock, MHz",
    "memory_mhz": "GPU memory clock, MHz",
    "power_w": "Power, W",
    "temperature_c": "Temperature, °C",
    "throttling": "Throttled by",
}


def conditions(context: Row) -> Row:
    """`columns` name the readings that any run has, `rows` are each engine's cells, before then after."""
    readings = {
        engine: [(context["runs"][engine].get("conditions") or {}).get(when) or {} for when in ("before", "after")]
        for engine in context["engines"]
    }
    keys = [key for key in READINGS if any(r.get(key) is not None for pair in readings.values() for r in pair)]
    rows = [
        (summary.label(engine), [" then ".join(_reading(reading.get(key)) for reading in pair) for key in keys])
        for engine, pair in readings.items()
    ]
    return {"columns": [READINGS[key] for key in keys], "rows": rows}


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
