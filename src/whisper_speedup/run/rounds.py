"""The stage `rounds`: start a process for each engine and let them take turns, a few times over; write each turn.

On a GPU the processes hold their weights, caches and CUDA contexts at the same time, which is the price of turns that
do not load anew. An engine that does not fit beside those before it is left out, and rounds.json says so.
"""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.identity import weights_sha256
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.disk.files import read_json, sha256, write_json, write_jsonl
from whisper_speedup.disk.progress import track
from whisper_speedup.engines.json_lines import Partner
from whisper_speedup.errors import UserError, say
from whisper_speedup.params.profile import BASELINE, Params, Profile, RoundsParams
from whisper_speedup.run.order import orders, subset
from whisper_speedup.run.starts import together

COMMAND = [sys.executable, "-m", "whisper_speedup.run.rounds_worker"]
# Seconds to wait for an answer. Genuine Kernl warms up for a quarter of an hour, and is known to hang.
LIMITS_S = {"load": 10800.0, "turn": 7200.0, "end": 120.0}


def run(profile: Profile, profile_name: str, params: Params, build: Path = Path("build")) -> Path:
    """Let the baseline and the engines of `params` take turns; writes build/PROFILE/rounds/ and returns that folder.

    rounds.jsonl has a row for each decoded clip, in the order of time: `start, round, place` (from 1; rounds count over
    all starts), `engine, clip, seconds, device_seconds, tokens, error`. rounds.json has what they were made with, each
    engine's conditions, and who was `left_out`. Both are empty with `measure.rounds: null`. Raises
    UserError; nothing is written then.
    """
    folder = build / profile_name
    asked = profile.measure.rounds
    about: dict[str, Any] = {"profile": profile_name, "rounds": asked.model_dump() if asked else None}
    rows: list[dict[str, Any]] = []
    if asked is not None:
        manifest_path = folder / "data" / "manifest.jsonl"
        chosen = subset(manifest.read(manifest_path), asked.clips)
        if not chosen:
            raise UserError(f"{manifest_path} lists no readable clip: run the data stage again (dvc repro).")
        model_dir = checked_folder(folder / "model.json")
        request = {
            "do": "load", "profile": profile.model_dump(mode="json"), "model": str(model_dir),
            "manifest": str(manifest_path), "clips": [row.id for row in chosen],
        }  # fmt: skip
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        engines = [BASELINE, *(engine for engine in dict.fromkeys(params.engines) if engine != BASELINE)]
        rows, measured = take_turns(engines, request, asked)
        about |= {
            "data_sha256": sha256(manifest_path),
            "weights_sha256": weights_sha256(read_json(folder / "model.json")),
            "clips": [row.id for row in chosen],
            "started": started,
            "seconds": time.perf_counter() - begin,
            **measured,
        }
    write_jsonl(folder / "rounds" / "rounds.jsonl", rows)
    write_json(folder / "rounds" / "rounds.json", about)
    return folder / "rounds"


def take_turns(
    engines: list[str], request: dict[str, Any], asked: RoundsParams
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of all turns; `engines` (what each says of itself) and `left_out` (why). Raises UserError.

    All processes are started `asked.starts` times, for a start draws memory layout and the like anew, and the rounds of
    one start share them. Who finds no room once is left out of them all.
    """
    rows: list[dict[str, Any]] = []
    told: dict[str, list[dict[str, Any]]] = {}
    left_out: dict[str, str] = {}
    for number in range(1, asked.starts + 1):
        candidates = [engine for engine in engines if engine not in left_out]
        found, about = one_start(candidates, request, asked, number, left_out)
        rows += found
        for engine, said in about.items():
            told.setdefault(engine, []).append(said)
    rows = [row for row in rows if row["engine"] not in left_out]
    return rows, {
        "engines": {engine: together(said) for engine, said in told.items() if engine not in left_out},
        "left_out": left_out,
    }


def one_start(
    engines: list[str], request: dict[str, Any], asked: RoundsParams, number: int, left_out: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Start number `number` (from 1) of the processes: the rows of its turns, and what each engine says of itself.

    Adds to `left_out`. One engine works at a time: the next is asked only when the one before has answered.
    """
    workers: dict[str, Partner] = {}
    about: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    here = "rounds" if asked.starts == 1 else f"rounds, start {number} of {asked.starts}"
    patience_s = 0.0
    try:
        for engine in engines:
            workers[engine] = start(engine)
            answer = workers[engine].ask({**request, "engine": engine}, LIMITS_S["load"])
            if "no_room" in answer:
                left_out[engine] = answer["no_room"]
                workers.pop(engine).close()
            else:
                about[engine] = answer["loaded"]
            say(f"{here}: {engine} {'is left out' if engine in left_out else 'is ready'}")
        if BASELINE in left_out or len(workers) < 2:
            why = next(iter(left_out.values()), "params.yaml names no engine beside it")
            raise UserError(
                "rounds need the baseline and another engine in memory at the same time, and only"
                f" {next(iter(workers), 'none')} fits ({why.removesuffix('.')}): set measure.rounds to null."
            )
        # Of all starts together, so that who comes first, second and so on is even over them.
        order = orders(list(workers), asked.starts * asked.count, asked.seed)
        first = (number - 1) * asked.count
        turns = [(one, place, engine)
                 for one in range(first + 1, first + asked.count + 1)
                 for place, engine in enumerate(order[one - 1], 1)]  # fmt: skip
        for one, place, engine in track(turns, here, "turn"):
            answer = workers[engine].ask({"do": "turn"}, LIMITS_S["turn"])
            where = {"start": number, "round": one, "place": place, "engine": engine}
            rows += [where | row for row in answer["rows"]]
        for engine, worker in workers.items():
            about[engine] |= worker.ask({"do": "end"}, LIMITS_S["end"])["about"]
        patience_s = 10.0
    finally:
        for worker in workers.values():
            worker.close(patience_s)
    return rows, about


def start(engine: str) -> Partner:
    """A process that will be `engine`."""
    return Partner(f"the process of {engine}", COMMAND, dict(os.environ))
