"""Read what the earlier stages wrote, and refuse to compare what does not belong together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from whisper_speedup.audio.row import Row, read_manifest
from whisper_speedup.checkpoints.identity import Checkpoint, read_checkpoint
from whisper_speedup.disk.files import read_json, sha256
from whisper_speedup.disk.records import checked, read_record, read_records
from whisper_speedup.errors import UserError, plain
from whisper_speedup.run.rows import LeftOut, Result, RunRecord, Variants
from whisper_speedup.run.source import Stage

YARDSTICK = f"{Stage.YARDSTICK}."  # yardstick.NAME stands where an engine's name does, for a variant of the baseline


@dataclass(frozen=True)
class Run:
    """One engine's whole run: its run.json, and its rows in the manifest's order."""

    engine: str
    about: RunRecord
    results: list[Result]


@dataclass(frozen=True)
class Inputs:
    """Everything that compare reads."""

    manifest: list[Row]
    data_sha256: str
    model: Checkpoint
    runs: list[Run]  # the baseline first
    left_out: dict[str, str] = field(default_factory=dict)  # engines that this machine cannot run, and why
    yardstick: list[Run] = field(default_factory=list)  # variants of the baseline
    variants_left_out: dict[str, str] = field(default_factory=dict)  # those that mean nothing here, and why


def read_inputs(build: Path, profile_name: str, engines: list[str], variants: Sequence[str] = ()) -> Inputs:
    """Read build/PROFILE: the manifest, model.json, the run of each engine, baseline first, but for those left out, and
    of each variant.

    Raises UserError for what is missing, damaged, or was made from other data, other weights or another profile.
    """
    manifest_path = build / "data" / "manifest.jsonl"
    manifest = read_manifest(manifest_path)
    if not manifest:
        raise UserError(f"{manifest_path} lists no utterance: run dvc repro to make it again.")
    model = read_checkpoint(build / "model.json")
    digest = sha256(manifest_path)
    read = [_read_run(build / "runs" / engine, engine) for engine in engines]
    made_with = {"data_sha256": digest, "weights_sha256": model.weights_sha256, "model_sha256": model.model_sha256}
    left_out = {run.engine: run.left_out for run in read if isinstance(run, LeftOut)}
    runs = [run for run in read if isinstance(run, Run)]
    for run in runs:
        _check(run, run.engine, manifest, made_with, profile_name)
    if left_out and len(runs) == 1:
        raise UserError(
            f"none of params.yaml's engines runs on this machine ({' '.join(left_out.values())}): name one that does."
        )
    nothing = read_record(Variants, build / Stage.YARDSTICK / "variants.json").left_out if variants else {}
    decoded = [variant for variant in variants if variant not in nothing]
    found = [_read_run(build / Stage.YARDSTICK / variant, f"{YARDSTICK}{variant}") for variant in decoded]
    yardstick = [run for run in found if isinstance(run, Run)]  # the baseline never leaves itself out
    for run in yardstick:
        _check(run, engines[0], manifest, made_with, profile_name)
    return Inputs(manifest, digest, model, runs, left_out, yardstick, nothing)


def with_texts(inputs: Inputs, normalise: Callable[[str], str]) -> Inputs:
    """The same with every run's texts normalised by `normalise` and not as English."""

    def changed(row: Result) -> Result:
        return row if row.raw_text is None else row.but(text=normalise(row.raw_text))

    runs, yardstick = (
        [replace(run, results=[changed(row) for row in run.results]) for run in runs]
        for runs in (inputs.runs, inputs.yardstick)
    )
    return replace(inputs, runs=runs, yardstick=yardstick)


def _read_run(folder: Path, engine: str) -> Run | LeftOut:
    for name in ("run.json", "results.jsonl"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name} does not exist, so {engine} has no run to compare: run dvc repro to make it."
            )
    path = folder / "results.jsonl"
    results = read_records(Result, path)
    for row in results:
        if row.error is None and (row.tokens is None or row.text is None or not row.seconds or min(row.seconds) <= 0):
            raise UserError(
                f"{path} has neither an output with its time nor an error for {plain(row.id)}: delete {folder} and run"
                " dvc repro."
            )
    content = read_json(folder / "run.json")
    if not isinstance(content, dict) or content.get("results_sha256") != sha256(path):
        raise UserError(
            f"{path} is not the file that {folder / 'run.json'} was written for: delete {folder} and run dvc repro."
        )
    if "left_out" in content:
        return checked(LeftOut, content, folder / "run.json")
    return Run(engine, checked(RunRecord, content, folder / "run.json"), results)


def _check(run: Run, made_by: str, manifest: list[Row], made_with: dict[str, str], profile_name: str) -> None:
    again = f"run dvc repro to decode with {run.engine} again."
    for key, other in (
        ("data_sha256", "from other data than the manifest"),
        ("weights_sha256", "with other weights than model.json"),
        ("model_sha256", "with other configuration or tokenizer files than model.json"),
    ):
        if getattr(run.about, key) != made_with[key]:
            raise UserError(f"the run of {run.engine} was made {other} of {profile_name}: {again}")
    if run.about.engine != made_by or run.about.profile != profile_name:
        raise UserError(f"the run of {run.engine} says it is another engine's or another profile's: {again}")
    wanted, found = [row.id for row in manifest], [row.id for row in run.results]
    if wanted != found:
        missing, strange = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        what = (
            f"lacks {plain(missing[0])}"
            if missing
            else f"has {plain(strange[0])}, which is not in it"
            if strange
            else "is out of order"
        )
        raise UserError(f"the run of {run.engine} does not follow the manifest of {profile_name} (it {what}): {again}")
