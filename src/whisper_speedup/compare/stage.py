"""The stage `compare`: from the runs of a profile to the small files in reports/ that the page and DVC read."""

from pathlib import Path

import numpy as np

from whisper_speedup.audio.row import Row
from whisper_speedup.compare import rates, statistics
from whisper_speedup.compare.comparable import round_warnings, warnings
from whisper_speedup.compare.differences import Difference, differing_rows
from whisper_speedup.compare.evidence import evidence
from whisper_speedup.compare.latency import latency, utterances_csv
from whisper_speedup.compare.provenance import git_state
from whisper_speedup.compare.rescore import rescore
from whisper_speedup.compare.rounds import InRounds, Rounds, against_rounds, read_rounds
from whisper_speedup.compare.runs import YARDSTICK, Inputs, Run, read_inputs, with_texts
from whisper_speedup.compare.throughput import batched, set_seconds, throughput
from whisper_speedup.compare.verdict import BETTER, TIE, WORSE
from whisper_speedup.compare.writing import writing
from whisper_speedup.disk.files import write_json, write_jsonl, write_text
from whisper_speedup.params.profile import BASELINE, Params, Profile, as_yaml, complete
from whisper_speedup.run.source import Stage

FORMAT = 1  # of context.json: the page refuses what it does not know


def compare(
    profile: Profile, profile_name: str, params: Params, build: Path = Path("build"), reports: Path = Path("reports")
) -> Path:
    """Compare the engines of `params` with the baseline, from build/PROFILE into reports/PROFILE.

    Writes metrics.json, differences.jsonl, evidence.jsonl, latency.jsonl, utterances.csv and context.json and returns
    the folder they are in. Raises UserError, before anything is written, for runs that are missing or do not belong
    together.
    """
    engines = [BASELINE, *(engine for engine in dict.fromkeys(params.engines) if engine != BASELINE)]
    inputs = read_inputs(build / profile_name, profile_name, engines, profile.measure.yardstick or [])
    rounds = read_rounds(build / profile_name / Stage.ROUNDS, inputs, profile_name)
    notes = warnings(inputs.runs)
    # Synthetic weights' texts mean nothing.
    judged = inputs.model.trained and any(row.reference is not None for row in inputs.manifest)
    written = writing(inputs, profile.generation, judged, notes)
    if not written.english:
        inputs = with_texts(inputs, written.normalise)
    normalise = written.normalise if judged else None
    counted_errors = rates.counts(inputs.manifest, inputs.runs, written, judged)
    baseline = inputs.runs[0]

    metrics: dict[str, object] = {"utterances": len(inputs.manifest)}
    if not written.english:
        metrics["normaliser"] = f"basic ({written.language or 'the language was detected for each utterance'})"
    comparisons: dict[str, dict[str, object]] = {}
    behind: dict[str, InRounds | None] = {}
    differences: list[Difference] = []
    for run in inputs.runs:
        numbers = alone(inputs.manifest, run) | rates.rates(counted_errors, run.engine)
        if run is not baseline:
            rows = differing_rows(inputs.manifest, baseline, run, normalise, written.unit)
            pair, comparisons[run.engine] = against(baseline, run)
            comparisons[run.engine] |= rates.differences(counted_errors, baseline, run)
            in_rounds, behind[run.engine] = against_rounds(rounds, baseline, run)
            comparisons[run.engine]["rounds"] = one.content() if (one := behind[run.engine]) else None
            numbers |= pair | in_rounds
            differences += rows
        metrics |= {f"{run.engine}.{key}": value for key, value in numbers.items()}
    for run in inputs.yardstick:
        metrics |= {f"{run.engine}.{key}": value for key, value in of_variant(baseline, run).items()}
        differences += differing_rows(inputs.manifest, baseline, run, normalise, written.unit)
    notes += round_warnings(inputs.runs, rounds, behind)
    differences, rescored = rescore(differences, inputs, profile, build / profile_name)
    for run in [*inputs.runs[1:], *inputs.yardstick]:
        rows = [row for row in differences if row.engine == run.engine]
        metrics |= {f"{run.engine}.{key}": value for key, value in counted(rows).items()}

    folder = reports / profile_name
    write_json(folder / "metrics.json", metrics)
    write_jsonl(folder / "differences.jsonl", (row.content() for row in differences))
    manifest_path = build / profile_name / "data" / "manifest.jsonl"
    of_engines = [row for row in differences if row.engine in engines]
    found = evidence(of_engines, inputs.manifest, manifest_path)
    write_jsonl(folder / "evidence.jsonl", (row.content() for row in found))
    times = latency(inputs.manifest, inputs.runs)
    write_jsonl(folder / "latency.jsonl", (row.model_dump() for row in times))
    write_text(folder / "utterances.csv", utterances_csv(times, engines))
    context = _context(inputs, profile, profile_name, params, comparisons, notes)
    context |= {"rescoring": rescored, "rounds": _about(rounds), "writing": written.about()}
    write_json(folder / "context.json", context | rates.sums(counted_errors))
    return folder


def _about(rounds: Rounds | None) -> dict[str, object] | None:
    """rounds.json without what the runs say already."""
    if rounds is None:
        return None
    said_already = {"settings", "dtype", "prompt", "device", "threads", "environment"}
    return rounds.about.model_dump(
        exclude_unset=True,
        exclude={"profile": True, "data_sha256": True, "weights_sha256": True, "engines": {"__all__": said_already}},
    )


def counted(rows: list[Difference]) -> dict[str, object]:
    """How many outputs differ, by either rule, and what the reference model makes of them (null: it judged none)."""
    verdicts = [row.verdict for row in rows]
    known = not rows or any(verdict is not None for verdict in verdicts)
    return {
        "different": sum(not row.same_text for row in rows),
        "different_tokens": sum(row.first_divergence is not None for row in rows),
        "rounding_ties": verdicts.count(TIE) if known else None,
        "better": verdicts.count(BETTER) if known else None,
        "worse": verdicts.count(WORSE) if known else None,
        "not_judged": verdicts.count(None),
    }


def of_variant(baseline: Run, run: Run) -> dict[str, object]:
    """What a variant of the baseline gives beside its differences: `utterances` that it and the baseline decoded."""
    pairs = zip(baseline.results, run.results, strict=True)
    return {
        "utterances": sum(theirs.error is None and ours.error is None for theirs, ours in pairs),
        "truncated": sum(bool(row.truncated) for row in run.results if row.error is None),
        "failed": sum(row.error is not None for row in run.results),
    }


def alone(manifest: list[Row], run: Run) -> dict[str, object]:
    """What one run gives by itself, over the utterances it decoded; null where there is nothing to measure.

    Of a batched run, `total_s` is the set's seconds (of all workers) and not the utterances' sum, for they overlap.
    """
    decoded = [(utterance, row) for utterance, row in zip(manifest, run.results, strict=True) if row.error is None]
    seconds = np.array([row.median_s for _, row in decoded])
    audio_s = sum(utterance.duration_s or 0.0 for utterance, _ in decoded)
    tokens = np.array([float(len(row.tokens or [])) for _, row in decoded])
    many = batched(run)
    total_s = (set_seconds(run) if many else float(seconds.sum())) if decoded else None
    fitted = None if many else statistics.line(tokens, seconds)
    device = [s for _, row in decoded if (s := row.device_median_s) is not None]
    return {
        "total_s": total_s,
        "device_total_s": sum(device) if device and len(device) == len(decoded) else None,
        "median_s": float(np.median(seconds)) if decoded else None,
        "p95_s": float(np.quantile(seconds, 0.95)) if decoded else None,
        "rtfx": float(audio_s / total_s) if total_s else None,
        "token_s": fitted[0] if fitted else None,
        "warmup_s": run.about.warmup_s,
        "peak_reserved_bytes": run.about.memory.max_reserved,
        "process_peak_bytes": run.about.memory.process_peak,
        "energy_per_audio_hour_wh": _energy(run),
        "truncated": sum(bool(row.truncated) for _, row in decoded),
        "failed": len(manifest) - len(decoded),
        **throughput(run),
    }


def _energy(run: Run) -> float | None:
    """Watt-hours of the whole board for an hour of audio; None where the GPU did not count its energy.

    Joules for a second of audio and watt-hours for an hour of it are one number: both units are 3600 times as large.
    """
    used = run.about.energy
    return used.joules / used.audio_s if used and used.audio_s else None


def against(baseline: Run, run: Run) -> tuple[dict[str, object], dict[str, object]]:
    """The speedup with its interval, and what it was computed from, over the utterances that both runs decoded.

    A batched run has no interval, for its utterances were not timed one by one.
    """
    both = [(a, b) for a, b in zip(baseline.results, run.results, strict=True) if a.error is None and b.error is None]
    before, after = np.array([a.median_s for a, _ in both]), np.array([b.median_s for _, b in both])
    interval = None if batched(run) else statistics.ratio_interval(before, after)
    total_s = float(after.sum()) if both else None
    if both and batched(run):
        total_s = _part_of_set(run, len(both))
    return {
        "speedup": float(before.sum()) / total_s if total_s else None,
        "speedup_low": interval[0] if interval else None,
        "speedup_high": interval[1] if interval else None,
    }, {
        "utterances": len(both),
        "baseline_total_s": float(before.sum()) if both else None,
        "total_s": total_s,
    }


def _part_of_set(run: Run, count: int) -> float | None:
    """Workers' seconds for `count` of the decoded utterances of a batched run."""
    whole, decoded = set_seconds(run), sum(row.error is None for row in run.results)
    return whole * count / decoded if whole and decoded else None


def _context(
    inputs: Inputs,
    profile: Profile,
    profile_name: str,
    params: Params,
    comparisons: dict[str, dict[str, object]],
    notes: list[str],
) -> dict[str, object]:
    """Everything else that the page says: no path of this machine, nothing that another file already holds."""
    content = complete(profile).model_dump(mode="json")
    environment = inputs.runs[0].about.environment
    runs = {}
    for run in inputs.runs:
        known = {"model", "environment"} if run.about.environment == environment else {"model"}
        runs[run.engine] = run.about.model_dump(exclude_unset=True, exclude=known)
    return {
        "format": FORMAT,
        "profile": {
            "name": profile_name,
            "content": content,
            # JSON's sorted keys lose the order of the file, which is the order to read it in.
            "yaml": as_yaml(content),
        },
        "params": params.model_dump(mode="json"),
        "engines": [run.engine for run in inputs.runs],
        "left_out": inputs.left_out,
        "baseline": BASELINE,
        "environment": environment,
        "model": inputs.model.model_dump(exclude_unset=True, exclude={"path"}),
        "data_sha256": inputs.data_sha256,
        "weights_sha256": inputs.model.weights_sha256,
        "runs": runs,
        "comparisons": comparisons,
        "yardstick": {
            "variants": [run.engine.removeprefix(YARDSTICK) for run in inputs.yardstick],
            "left_out": inputs.variants_left_out,
        },
        "bootstrap": {"resamples": statistics.RESAMPLES, "seed": statistics.SEED, "level": statistics.LEVEL},
        "warnings": notes,
        "git": git_state(Path(".")),
    }
