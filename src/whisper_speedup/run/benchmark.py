"""Decode a manifest with one engine: load, warm up, time each utterance, record.

The timed region is the notebook's: features are on the device, `generate` runs, ids come out, and the device is
synchronised on both sides. Reading audio and computing features happen outside it. worker.py does the work, in
this process or in many.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from whisper_speedup.audio import manifest
from whisper_speedup.audio.index import Index
from whisper_speedup.audio.row import Row
from whisper_speedup.checkpoints.identity import read_checkpoint
from whisper_speedup.checkpoints.prepare import check_files
from whisper_speedup.disk.files import sha256, write_bytes, write_json, write_jsonl
from whisper_speedup.disk.lock import only_one
from whisper_speedup.disk.progress import Progress
from whisper_speedup.engines.create import create
from whisper_speedup.errors import EngineLost, LeftOutError, NotANumberError, UserError, say
from whisper_speedup.params.profile import GenerationParams, Profile
from whisper_speedup.run.choose import crew_for
from whisper_speedup.run.crew import Crew, Finished, Progressed
from whisper_speedup.run.decoding import ENOUGH
from whisper_speedup.run.inline import Inline
from whisper_speedup.run.job import Job
from whisper_speedup.run.local import Checked, Clips, Recorded
from whisper_speedup.run.messages import Decoded, Item, Loaded, Rows
from whisper_speedup.run.partial import Partial, one_sentence
from whisper_speedup.run.rows import LeftOut, PartialKey, RunRecord, Session, Throughput
from whisper_speedup.run.source import Stage, source_sha256, stage_of
from whisper_speedup.run.waiting import Waiting
from whisper_speedup.run.worker import BREAKDOWN


def decode(
    profile: Profile,
    profile_name: str,
    engine_name: str,
    build: Path = Path("build"),
    variant: str | None = None,
    ray_address: str | None = None,
) -> Path:
    """Run one engine over the profile's manifest; writes build/PROFILE/runs/ENGINE/ and returns that folder.

    `variant`: `profile` holds this variant of the engine, which is run for its texts alone: the folder is then
    build/PROFILE/yardstick/VARIANT/, and nothing is timed behind the run. `ray_address`: decode on that Ray cluster.

    Both files are written at the end, each whole or not at all; until then build/PROFILE/partial/ENGINE.jsonl holds the
    rows decoded so far. It stays when the run ends early, however that happens, and the next run with the same inputs
    goes on from there. Raises UserError for what the user can mend, a GPU that fails, a full disk and another process
    that runs the same stage included. An engine that leaves itself out here (LeftOutError) has a run that says why, of
    no rows.
    """
    create(engine_name, profile.measure)  # first: a misspelt name costs no hashing of weights
    folder = build / profile_name
    what = engine_name if variant is None else f"yardstick-{variant}"
    with only_one(folder / f".decode-{what}.lock", f"decoding {profile_name} with {what}"):
        return _decode(profile, profile_name, engine_name, folder, variant, ray_address)


def _decode(
    profile: Profile, profile_name: str, engine_name: str, folder: Path, variant: str | None, ray_address: str | None
) -> Path:
    manifest_path = folder / "data" / "manifest.jsonl"
    index = Index(manifest_path)
    model = read_checkpoint(folder / "model.json")
    model_dir = check_files(model, Path(model.path), str(folder / "model.json"))
    measure = profile.measure
    belongs = {
        "data_sha256": sha256(manifest_path),
        "weights_sha256": model.weights_sha256,
        "model_sha256": model.model_sha256,
    }

    def items(numbers: list[int], with_audio: bool) -> list[Item]:
        return [
            _with_audio(number, row, manifest_path) if with_audio else Item(number, row)
            for number, row in zip(numbers, index.rows(numbers), strict=True)
        ]

    job = Job(
        profile,
        engine_name,
        create,
        Checked(model_dir),
        Clips(manifest_path, measure.features),
        warmup=[Item(-1, row) for row in islice(index.readable(), max(measure.warmup, BREAKDOWN) + ENOUGH)],
        extras=variant is None,
    )
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = folder / "runs" / engine_name if variant is None else folder / Stage.YARDSTICK / variant
    name = engine_name if variant is None else f"yardstick-{variant}"
    with one_sentence():
        if not job.warmup:
            raise UserError(f"{manifest_path} lists no readable clip: run the data stage again (dvc repro).")
        elsewhere = Recorded(profile.model, model, model_dir.absolute())
        crew = crew_for(job, elsewhere, items, ray_address)
    with closing(crew.run()) as messages:
        with one_sentence():
            try:
                loaded = _loaded(messages)
            except LeftOutError as reason:
                say(reason)
                write_jsonl(run / "results.jsonl", [])
                left_out = LeftOut(
                    engine=engine_name, profile=profile_name, left_out=str(reason),
                    **belongs, results_sha256=sha256(run / "results.jsonl"),
                )  # fmt: skip
                write_json(run / "run.json", left_out.content())
                return run
            made_with = {
                "engine": engine_name, "features": measure.features, **belongs,
                "source_sha256": source_sha256(stage_of(engine_name, variant)),
            }  # fmt: skip
            generation = GenerationParams(**profile.generation.model_dump())  # what is left to defaults counts, too
            key = PartialKey(
                **dict(loaded.setup), **made_with, generation=generation, repeats=measure.repeats,
                warmup=measure.warmup, **({} if loaded.elsewhere is None else {"elsewhere": loaded.elsewhere}),
            )  # fmt: skip
            session = Session(started=started, conditions=loaded.conditions)
            partial = Partial(folder / "partial" / f"{name}.jsonl", key, index.names, session)
        with one_sentence(partial):
            order = index.longest_first() if loaded.batched else range(len(index))
            crew.waiting = Waiting((number for number in order if not partial.has(number)), crew.size)
            finished, throughput = _recorded(messages, crew, partial, name, loaded.batched)
            write_bytes(run / "results.jsonl", partial.lines())
            record = RunRecord(
                **dict(loaded.own), **made_with, **finished.measured.given(),
                model=model.model_dump(include={"name", "trained", "source", "revision"}), profile=profile_name,
                device_name=loaded.device_name, load_s=loaded.load_s, warmup_s=loaded.warmup_s,
                decode_s=throughput.seconds or 0.0, resumed_from=partial.resumed_from, started=started,
                throughput=throughput, workers=finished.workers, results_sha256=sha256(run / "results.jsonl"),
            )  # fmt: skip
            write_json(run / "run.json", record.content())
    partial.remove()
    return run


def _with_audio(number: int, row: Row, manifest_path: Path) -> Item:
    """With the file's content; where there is none to be had, the worker's own try says why."""
    try:
        return Item(number, row, manifest.read_audio(manifest_path, row) if row.error is None else None)
    except UserError as error:
        return Item(number, row.but(audio=None, error=str(error)))


def _loaded(messages: Iterator[Progressed]) -> Loaded:
    message = next(messages)
    assert isinstance(message, Loaded)
    return message


def _recorded(
    messages: Iterator[Progressed], crew: Inline | Crew, partial: Partial, name: str, batched: bool
) -> tuple[Finished, Throughput]:
    """Put each row into `partial` as it comes; what was measured, and the rate.

    Raises EngineLost when none of the first utterances, or none at all, gives numbers.
    """
    numbers = partial.count  # utterances with numbers, those of earlier processes included
    overflows: list[NotANumberError] = []
    count, audio_s, last = 0, 0.0, time.perf_counter()
    with Progress(f"decoding with {name}", partial.total, "utterance", partial.count) as progress:
        for message in messages:
            assert isinstance(message, Rows | Finished)
            if isinstance(message, Rows):
                partial.extend([one.row for one in message.rows])
                last = time.perf_counter()
                progress.advance(len(message.rows))
                decoded = sum(one.row.error is None for one in message.rows)
                count += decoded  # without those that failed: they take no time, and would make the rate look higher
                audio_s += sum(one.audio_s for one in message.rows)
                numbers += decoded
                overflows += _overflows(message.rows) if len(overflows) < ENOUGH else []
            if overflows and not numbers and (len(overflows) >= ENOUGH or isinstance(message, Finished)):
                raise EngineLost(overflows[0].for_all(len(overflows)))
            if isinstance(message, Finished):
                begun = crew.waiting.begun
                return message, Throughput(
                    utterances=count, audio_s=audio_s, seconds=last - begun if begun is not None else None,
                    batched=batched, workers=crew.size,
                )  # fmt: skip
    raise AssertionError("a crew ends with Finished")


def _overflows(rows: list[Decoded]) -> list[NotANumberError]:
    return [one.overflow for one in rows if one.overflow is not None]
