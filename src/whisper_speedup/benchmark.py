"""Decode a manifest with one engine: load, warm up, time each utterance, record.

The timed region is the notebook's: features are on the device, `generate` runs, ids come out, and the device is
synchronised on both sides. Reading audio and computing features happen outside it.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from whisper_speedup import device as devices
from whisper_speedup.audio import manifest
from whisper_speedup.audio.features import log_mel
from whisper_speedup.checkpoints.identity import model_sha256, weights_sha256
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.engines.create import create
from whisper_speedup.engines.protocol import Elsewhere, Engine, Watched
from whisper_speedup.errors import ClipError, EngineLost, LeftOutError, NotANumberError, UserError
from whisper_speedup.files import read_json, sha256, write_json, write_jsonl
from whisper_speedup.lock import only_one
from whisper_speedup.measure import conditions, memory
from whisper_speedup.measure.bandwidth import memory_bandwidth
from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.measure.floor import step_bytes
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.measure.source import source_sha256
from whisper_speedup.params import Profile
from whisper_speedup.partial import Partial, one_sentence
from whisper_speedup.progress import track
from whisper_speedup.timed import timed

NO_OUTPUT: dict[str, Any] = {
    "tokens": None, "text": None, "raw_text": None, "score": None, "seconds": None,
    "device_seconds": None, "truncated": None,
}  # fmt: skip
# So many clips, and every one so far, give NaN: then it is the weights and no clip's fault.
ENOUGH = 8
BREAKDOWN = 8  # utterances whose parts are timed


def decode(
    profile: Profile, profile_name: str, engine_name: str, build: Path = Path("build"), variant: str | None = None
) -> Path:
    """Run one engine over the profile's manifest; writes build/PROFILE/runs/ENGINE/ and returns that folder.

    `variant`: `profile` holds this variant of the engine, which is run for its texts alone: the folder is then
    build/PROFILE/yardstick/VARIANT/, and nothing is timed behind the run.

    Both files are written at the end, each whole or not at all; until then build/PROFILE/partial/ENGINE.jsonl holds the
    rows decoded so far. It stays when the run ends early, however that happens, and the next run with the same inputs
    goes on from there. Raises UserError for what the user can mend, a GPU that fails, a full disk and another process
    that runs the same stage included. An engine that leaves itself out here (LeftOutError) has a run that says why, of
    no rows.
    """
    engine = create(engine_name, profile.measure)  # first: a misspelt name costs no hashing of weights
    folder = build / profile_name
    what = engine_name if variant is None else f"yardstick-{variant}"
    with only_one(folder / f".decode-{what}.lock", f"decoding {profile_name} with {what}"):
        return _decode(engine, profile, profile_name, engine_name, folder, variant)


def _decode(
    engine: Engine, profile: Profile, profile_name: str, engine_name: str, folder: Path, variant: str | None
) -> Path:
    manifest_path = folder / "data" / "manifest.jsonl"
    rows = manifest.read(manifest_path)
    model = read_json(folder / "model.json")
    model_dir = checked_folder(folder / "model.json")
    measure = profile.measure
    device = devices.resolve(measure.device)
    if measure.threads is not None:
        torch.set_num_threads(measure.threads)
    extractor = WhisperFeatureExtractor.from_pretrained(model_dir)
    tokenizer = WhisperTokenizer.from_pretrained(model_dir)

    def features_of(row: manifest.Row) -> torch.Tensor:
        return log_mel(manifest.load_audio(manifest_path, row), extractor).to(device)

    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = folder / "runs" / engine_name if variant is None else folder / "yardstick" / variant
    belongs = {
        "data_sha256": sha256(manifest_path),
        "weights_sha256": weights_sha256(model),
        "model_sha256": model_sha256(model),
    }
    with one_sentence():
        begin = time.perf_counter()
        try:
            engine.load(model_dir, profile.generation, device)
        except LeftOutError as reason:
            print(reason, file=sys.stderr, flush=True)
            write_jsonl(run / "results.jsonl", [])
            why = {"engine": engine_name, "profile": profile_name, "left_out": str(reason)}
            write_json(run / "run.json", {**why, **belongs, "results_sha256": sha256(run / "results.jsonl")})
            return run
        synchronize(device)
        load_s = time.perf_counter() - begin
        readable = [row for row in rows if row.error is None]
        if not readable:
            raise UserError(f"{manifest_path} lists no readable clip: run the data stage again (dvc repro).")
        begin = time.perf_counter()
        warm_up(engine, readable, features_of, measure.warmup)
        synchronize(device)
        warmup_s = time.perf_counter() - begin

    # All of what the rows depend on: only rows with the same are continued.
    made_with = {
        "engine": engine_name,
        "settings": engine.settings,
        "prompt": engine.prompt,
        "device": device.type,
        "dtype": engine.dtype,
        "threads": torch.get_num_threads(),
        "environment": fingerprint(),
        **belongs,
        "source_sha256": source_sha256(engine_name),
    }
    asked = {"generation": profile.generation.model_dump(), "repeats": measure.repeats, "warmup": measure.warmup}
    if isinstance(engine, Elsewhere):
        asked["elsewhere"] = engine.process()["environment"]
    before = conditions.read(device)
    session = {"started": started, "conditions": before}
    begin = time.perf_counter()
    name = engine_name if variant is None else f"yardstick-{variant}"
    with one_sentence():
        partial = Partial(
            folder / "partial" / f"{name}.jsonl", {**made_with, **asked}, [row.id for row in rows], session
        )
    with one_sentence(partial):
        left = [row for row in rows if row.id not in partial.rows]
        progress = track(left, f"decoding with {name}", "utterance", done=len(rows) - len(left))
        with Sampler(device) as sampler:
            _decode_rows(engine, progress, features_of, tokenizer, measure.repeats, partial)
        decode_s = time.perf_counter() - begin
        about = {
            **made_with,
            "model": {key: model.get(key) for key in ("name", "trained", "source", "revision")},
            "profile": profile_name,
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else fingerprint().get("cpu"),
            "load_s": load_s,
            "warmup_s": warmup_s,
            "decode_s": decode_s,
            "resumed_from": partial.resumed_from,
            "memory": memory.snapshot(device),
            "started": started,
            "conditions": {"before": before, "after": conditions.read(device), "during": sampler.summary()},
            "energy": sampler.used(measure.repeats * _decoded_s(left, partial.rows)),
        }
        if isinstance(engine, Watched) and variant is None:
            about["breakdown"] = _breakdown(engine, readable[:BREAKDOWN], features_of, device)
        if isinstance(engine, Elsewhere):
            about |= engine.process()
        engine.close()
        if variant is None:
            about["step_floor"] = _step_floor(model_dir, device)  # last: its buffers are no engine's memory
        write_jsonl(run / "results.jsonl", (partial.rows[row.id] for row in rows))
        write_json(run / "run.json", {**about, "results_sha256": sha256(run / "results.jsonl")})
    partial.remove()
    return run


def _decoded_s(rows: list[manifest.Row], results: Mapping[str, dict[str, Any]]) -> float:
    """Seconds of audio of those rows that have an output."""
    return sum(row.duration_s or 0.0 for row in rows if results[row.id]["error"] is None)


def _breakdown(
    engine: Any, rows: list[manifest.Row], features_of: Callable[[manifest.Row], torch.Tensor], device: torch.device
) -> dict[str, float] | None:
    """Where the time of a few utterances goes, decoded once more behind the timed run; None when none can be."""
    stopwatch = Stopwatch(device)
    engine.watch(stopwatch)
    try:
        whole_s = sum(timed(engine, features_of(row)).seconds for row in rows)
    except EngineLost:
        raise
    except UserError:
        return None  # its row says why; a share of the parts without their whole would say nothing
    finally:
        engine.watch(None)
    return stopwatch.breakdown(whole_s, len(rows))


def _step_floor(model_dir: Path, device: torch.device) -> dict[str, float]:
    """The bytes that a decode step must read, this machine's bandwidth, and the seconds that follow."""
    size, bandwidth = step_bytes(read_json(model_dir / "config.json")), memory_bandwidth(device)
    return {"bytes": size, "bandwidth_bytes_s": bandwidth, "seconds": size / bandwidth}


def warm_up(
    engine: Engine, rows: list[manifest.Row], features_of: Callable[[manifest.Row], torch.Tensor], count: int
) -> None:
    """Warm up with `count` clips, the first ones again where there are fewer.

    A clip that fails is left to its own row, and so is every clip when the first ones all fail.
    """
    waiting = deque(rows)
    failed = 0
    while count and waiting and failed < ENOUGH:
        row = waiting.popleft()
        try:
            features = features_of(row)
        except UserError:
            failed += 1
            continue
        try:
            engine.warm_up(features)
        except ClipError:
            failed += 1
            continue
        waiting.append(row)
        count -= 1


def _decode_rows(
    engine: Engine,
    rows: Iterator[manifest.Row],
    features_of: Callable[[manifest.Row], torch.Tensor],
    tokenizer: WhisperTokenizer,
    repeats: int,
    partial: Partial,
) -> None:
    """A result row for each of `rows`, in `partial` as soon as it is made. An utterance that cannot be decoded carries
    its reason, and the others go on; raises EngineLost when none of the first ones, or none at all, gives numbers."""
    decoded, overflows = len(partial.rows), 0
    overflow: NotANumberError | None = None
    for row in rows:
        result = {"id": row.id, **NO_OUTPUT, "error": row.error}
        if row.error is None:
            try:
                result = _decode_row(engine, row, features_of(row), tokenizer, repeats)
                decoded += 1
            except EngineLost:
                raise
            except UserError as error:
                result["error"] = str(error)
                if isinstance(error, NotANumberError):
                    overflow, overflows = error, overflows + 1
        partial.append(result)
        if overflow and not decoded and overflows == ENOUGH:
            raise EngineLost(overflow.for_all(overflows))
    if overflow and not decoded:
        raise EngineLost(overflow.for_all(overflows))


def _decode_row(
    engine: Engine, row: manifest.Row, features: torch.Tensor, tokenizer: WhisperTokenizer, repeats: int
) -> dict[str, Any]:
    """One result row. Raises UserError for an utterance that cannot be decoded."""
    found = [timed(engine, features) for _ in range(repeats)]
    best = found[0].generation
    return {
        "id": row.id,
        "tokens": best.tokens,
        "text": tokenizer.decode(best.tokens, skip_special_tokens=True, normalize=True),
        "raw_text": tokenizer.decode(best.tokens, skip_special_tokens=True),
        "score": best.score,
        "seconds": [one.seconds for one in found],
        "device_seconds": _all([one.device_seconds for one in found]),
        "truncated": best.truncated,
        "error": None,
    }


def _all(values: list[float | None]) -> list[float] | None:
    """The values when each is known, else None."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None
