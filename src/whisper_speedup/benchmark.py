"""Decode a manifest with one engine: load, warm up, time each utterance, record.

The timed region is the notebook's: features are on the device, `generate` runs, ids come out, and the device is
synchronised on both sides. Reading audio and computing features happen outside it.
"""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from whisper_speedup import device as devices
from whisper_speedup.audio import manifest
from whisper_speedup.audio.features import log_mel
from whisper_speedup.checkpoints.identity import weights_sha256
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.engines.create import create
from whisper_speedup.engines.protocol import Engine, Generation
from whisper_speedup.errors import UserError
from whisper_speedup.files import read_json, sha256, write_json, write_jsonl
from whisper_speedup.measure import conditions, memory
from whisper_speedup.measure.bandwidth import memory_bandwidth
from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.measure.floor import step_bytes
from whisper_speedup.params import Profile

NO_OUTPUT: dict[str, Any] = {
    "tokens": None, "text": None, "raw_text": None, "score": None, "seconds": None, "truncated": None,
}  # fmt: skip


def decode(profile: Profile, profile_name: str, engine_name: str, build: Path = Path("build")) -> Path:
    """Run one engine over the profile's manifest; writes build/PROFILE/runs/ENGINE/ and returns that folder.

    Raises UserError for what the user can mend. Both files are written at the end, each whole or not at all.
    """
    engine = create(engine_name, profile.measure)  # first: a misspelt name costs no hashing of weights
    folder = build / profile_name
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

    started = datetime.now(UTC).isoformat(timespec="seconds")
    begin = time.perf_counter()
    engine.load(model_dir, profile.generation, device)
    synchronize(device)
    load_s = time.perf_counter() - begin

    readable = [row for row in rows if row.error is None]
    if not readable:
        raise UserError(f"{manifest_path} lists no readable clip: run the data stage again (dvc repro).")
    begin = time.perf_counter()
    for row in (readable * measure.warmup)[: measure.warmup]:
        engine.warm_up(_features(manifest_path, row, extractor, device))
    synchronize(device)
    warmup_s = time.perf_counter() - begin

    before = conditions.read(device)
    begin = time.perf_counter()
    results = [
        _decode_row(engine, row, manifest_path, extractor, tokenizer, device, measure.repeats)
        for row in _progress(rows, engine_name)
    ]
    decode_s = time.perf_counter() - begin
    about = {
        "engine": engine_name,
        "settings": engine.settings,
        "prompt": engine.prompt,
        "model": {key: model.get(key) for key in ("name", "trained", "source", "revision")},
        "profile": profile_name,
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else fingerprint().get("cpu"),
        "dtype": engine.dtype,
        "threads": torch.get_num_threads(),
        "load_s": load_s,
        "warmup_s": warmup_s,
        "decode_s": decode_s,
        "resumed_from": None,
        "memory": memory.snapshot(device),
        "environment": fingerprint(),
        "started": started,
        "conditions": {"before": before, "after": conditions.read(device)},
        "data_sha256": sha256(manifest_path),
        "weights_sha256": weights_sha256(model),
    }
    engine.close()
    about["step_floor"] = _step_floor(model_dir, device)  # last: its buffers are no engine's memory
    run = folder / "runs" / engine_name
    write_jsonl(run / "results.jsonl", results)
    write_json(run / "run.json", about)
    return run


def _step_floor(model_dir: Path, device: torch.device) -> dict[str, float]:
    """The bytes that a decode step must read, this machine's bandwidth, and the seconds that follow."""
    size, bandwidth = step_bytes(read_json(model_dir / "config.json")), memory_bandwidth(device)
    return {"bytes": size, "bandwidth_bytes_s": bandwidth, "seconds": size / bandwidth}


def _decode_row(
    engine: Engine,
    row: manifest.Row,
    manifest_path: Path,
    extractor: WhisperFeatureExtractor,
    tokenizer: WhisperTokenizer,
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    """One result row. An utterance that cannot be decoded carries its reason, and the others go on."""
    if row.error is not None:
        return {"id": row.id, **NO_OUTPUT, "error": row.error}
    try:
        features = _features(manifest_path, row, extractor, device)
        seconds, generations = [], []
        for _ in range(repeats):
            elapsed, generation = _timed(engine, features, device)
            seconds.append(elapsed)
            generations.append(generation)
    except UserError as error:
        return {"id": row.id, **NO_OUTPUT, "error": str(error)}
    best = generations[0]
    return {
        "id": row.id,
        "tokens": best.tokens,
        "text": tokenizer.decode(best.tokens, skip_special_tokens=True, normalize=True),
        "raw_text": tokenizer.decode(best.tokens, skip_special_tokens=True),
        "score": best.score,
        "seconds": seconds,
        "truncated": best.truncated,
        "error": None,
    }


def _timed(engine: Engine, features: torch.Tensor, device: torch.device) -> tuple[float, Generation]:
    """Seconds of the notebook's region, and what came out."""
    synchronize(device)
    begin = time.perf_counter()
    generation = engine.generate(features)
    synchronize(device)
    return time.perf_counter() - begin, generation


def _features(
    manifest_path: Path, row: manifest.Row, extractor: WhisperFeatureExtractor, device: torch.device
) -> torch.Tensor:
    return log_mel(manifest.load_audio(manifest_path, row), extractor).to(device)


def _progress(rows: list[manifest.Row], engine_name: str) -> Iterator[manifest.Row]:
    """A bar when a person watches, a line every tenth of the way when not."""
    label = f"decoding with {engine_name}"
    every = max(1, len(rows) // 10)
    for number, row in enumerate(tqdm(rows, desc=label, unit="utterance", disable=None), 1):
        yield row
        if not sys.stderr.isatty() and (number % every == 0 or number == len(rows)):
            print(f"{label}: {number} of {len(rows)} utterances", file=sys.stderr, flush=True)
