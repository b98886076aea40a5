"""How many utterances a run decoded in a second, on how many workers, and where their time went."""

from whisper_speedup.compare.runs import Run


def batched(run: Run) -> bool:
    """Whether many utterances were in flight at once: then an utterance's seconds are shared with others, and only the
    whole set's say how fast the engine is."""
    return run.about.throughput is not None and run.about.throughput.batched


def throughput(run: Run) -> dict[str, float | None]:
    """For metrics.json, over what the run's last process decoded; null where that is nothing.

    `utterances_per_s` and `wall_rtfx` (seconds of audio a second) count everything from the first utterance handed out
    to the last row on the disk: reading audio and making features too, which the notebook's region leaves out.
    `encoder_share` is of the time in encoder and decoder.
    """
    told = run.about.throughput
    seconds = told.seconds if told and told.utterances else None
    return {
        "utterances_per_s": told.utterances / seconds if told and seconds else None,
        "wall_rtfx": told.audio_s / seconds if told and seconds else None,
        "encoder_share": _encoder_share(run),
        "workers": told.workers if told else None,
    }


def set_seconds(run: Run) -> float | None:
    """Workers' seconds for all decoded utterances, at the rate of the last process: those of the clock times the number
    of workers, for one utterance at a time has no other either."""
    rate, told = throughput(run)["utterances_per_s"], run.about.throughput
    return told.workers * sum(row.error is None for row in run.results) / rate if told and rate else None


def _encoder_share(run: Run) -> float | None:
    streams = [worker.stream for worker in run.about.workers or [] if worker.stream]
    if streams:
        encoder, decoder = (sum(stream[key] for stream in streams) for key in ("encoder_s", "decoder_s"))
        return encoder / (encoder + decoder) if encoder + decoder else None
    parts = run.about.breakdown
    whole = parts.encoder_s + parts.prefill_s + parts.steps_s + parts.host_s if parts else 0.0
    return parts.encoder_s / whole if parts and whole else None
