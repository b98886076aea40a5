"""How many utterances a run decoded in a second, on how many workers, and where their time went."""

from typing import Any

from whisper_speedup.compare.runs import Run


def batched(run: Run) -> bool:
    """Whether many utterances were in flight at once: then an utterance's seconds are shared with others, and only the
    whole set's say how fast the engine is."""
    return bool((run.about.get("throughput") or {}).get("batched"))


def throughput(run: Run) -> dict[str, Any]:
    """For metrics.json, over what the run's last process decoded; null where that is nothing.

    `utterances_per_s` and `wall_rtfx` (seconds of audio a second) count everything from the first utterance handed out
    to the last row on the disk: reading audio and making features too, which the notebook's region leaves out.
    `encoder_share` is of the time in encoder and decoder.
    """
    told = run.about.get("throughput") or {}
    seconds, count = told.get("seconds"), told.get("utterances")
    return {
        "utterances_per_s": count / seconds if seconds and count else None,
        "wall_rtfx": told["audio_s"] / seconds if seconds and count else None,
        "encoder_share": _encoder_share(run),
        "workers": told.get("workers"),
    }


def set_seconds(run: Run) -> float | None:
    """Workers' seconds for all decoded utterances, at the rate of the last process: those of the clock times the number
    of workers, for one utterance at a time has no other either."""
    rate, workers = throughput(run)["utterances_per_s"], throughput(run)["workers"]
    return workers * sum(row.error is None for row in run.results) / rate if rate else None


def _encoder_share(run: Run) -> float | None:
    streams = [worker["stream"] for worker in run.about.get("workers") or [] if worker.get("stream")]
    if streams:
        encoder, decoder = (sum(stream[key] for stream in streams) for key in ("encoder_s", "decoder_s"))
        return encoder / (encoder + decoder) if encoder + decoder else None
    parts = run.about.get("breakdown")
    if not parts or parts.get("encoder_s") is None:
        return None
    whole = sum(parts.get(key) or 0.0 for key in ("encoder_s", "prefill_s", "steps_s", "host_s"))
    return parts["encoder_s"] / whole if whole else None
