"""Read what the earlier stages wrote, and refuse to compare what does not belong together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from whisper_speedup.checkpoints.identity import weights_sha256
from whisper_speedup.errors import UserError
from whisper_speedup.files import read_json, read_jsonl, sha256


class Utterance(BaseModel):
    """A row of the manifest, as far as comparing needs it (its own module would bring the audio libraries along)."""

    id: str
    duration_s: float | None
    reference: str | None
    cut_from_s: float | None = None
    error: str | None = None


class Result(BaseModel):
    """A row of results.jsonl: what an engine made of one utterance, or why it made nothing."""

    id: str
    tokens: list[int] | None
    text: str | None
    raw_text: str | None
    score: float | None
    seconds: list[float] | None
    device_seconds: list[float] | None = None
    truncated: bool | None
    error: str | None

    @property
    def median_s(self) -> float:
        """Seconds of compute, the median over the repeats."""
        return float(np.median(self.seconds or []))

    @property
    def device_median_s(self) -> float | None:
        """The same by the GPU's own clock; None where there is none."""
        return float(np.median(self.device_seconds)) if self.device_seconds else None


@dataclass(frozen=True)
class Run:
    """One engine's whole run: its run.json, and its rows in the manifest's order."""

    engine: str
    about: dict[str, Any]
    results: list[Result]


@dataclass(frozen=True)
class Inputs:
    """Everything that compare reads."""

    manifest: list[Utterance]
    data_sha256: str
    model: dict[str, Any]
    weights_sha256: str
    runs: list[Run]  # the baseline first


def read_inputs(build: Path, profile_name: str, engines: list[str]) -> Inputs:
    """Read build/PROFILE: the manifest, model.json and the run of each engine, baseline first.

    Raises UserError for what is missing, damaged, or was made from other data, other weights or another profile.
    """
    manifest_path = build / "data" / "manifest.jsonl"
    manifest = [_validated(Utterance, row, manifest_path, n) for n, row in enumerate(read_jsonl(manifest_path), 1)]
    if not manifest:
        raise UserError(f"{manifest_path} lists no utterance: run dvc repro to make it again.")
    model = read_json(build / "model.json")
    digest, weights = sha256(manifest_path), weights_sha256(model)
    runs = [_read_run(build / "runs" / engine, engine) for engine in engines]
    for run in runs:
        _check(run, manifest, digest, weights, profile_name)
    return Inputs(manifest, digest, model, weights, runs)


def _read_run(folder: Path, engine: str) -> Run:
    for name in ("run.json", "results.jsonl"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name} does not exist, so {engine} has no run to compare: run dvc repro to make it."
            )
    path = folder / "results.jsonl"
    results = [_validated(Result, row, path, number) for number, row in enumerate(read_jsonl(path), 1)]
    for row in results:
        if row.error is None and (row.tokens is None or row.text is None or not row.seconds or min(row.seconds) <= 0):
            raise UserError(
                f"{path} has neither an output with its time nor an error for {row.id}: delete {folder} and run"
                " dvc repro."
            )
    return Run(engine, read_json(folder / "run.json"), results)


def _check(run: Run, manifest: list[Utterance], data: str, weights: str, profile_name: str) -> None:
    again = f"run dvc repro to decode with {run.engine} again."
    if run.about.get("data_sha256") != data:
        raise UserError(
            f"the run of {run.engine} was made from other data than the manifest of {profile_name}: {again}"
        )
    if run.about.get("weights_sha256") != weights:
        raise UserError(
            f"the run of {run.engine} was made with other weights than model.json of {profile_name}: {again}"
        )
    if run.about.get("engine") != run.engine or run.about.get("profile") != profile_name:
        raise UserError(f"the run of {run.engine} says it is another engine's or another profile's: {again}")
    wanted, found = [row.id for row in manifest], [row.id for row in run.results]
    if wanted != found:
        missing, strange = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        what = (
            f"lacks {missing[0]}"
            if missing
            else f"has {strange[0]}, which is not in it"
            if strange
            else "is out of order"
        )
        raise UserError(f"the run of {run.engine} does not follow the manifest of {profile_name} (it {what}): {again}")


def _validated(kind: Any, row: Any, path: Path, number: int) -> Any:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "the row"
        raise UserError(
            f"{path}, row {number}: {place} is not what this version writes ({first['msg'].lower()}): delete the file"
            " and run dvc repro."
        ) from None
