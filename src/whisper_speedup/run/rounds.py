"""The stage `rounds`: start a process for each engine and let them take turns, a few times over; write each turn.

On a GPU the processes hold their weights, caches and CUDA contexts at the same time, which is the price of turns that
do not load anew. An engine that does not fit beside those before it, or leaves itself out, is left out, and rounds.json
says so.
"""

import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints.identity import read_checkpoint
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.disk.files import sha256, write_json, write_jsonl
from whisper_speedup.disk.progress import track
from whisper_speedup.engines.create import create
from whisper_speedup.errors import EngineLost, LeftOutError, NoRoomError, UserError, say
from whisper_speedup.params.profile import BASELINE, Params, Profile, RoundsParams
from whisper_speedup.run.job import Job
from whisper_speedup.run.local import Checked, Clips, Kept
from whisper_speedup.run.messages import Asks, Bug, Decoded, Ended, Failed, Item, Loaded, Lost, Rows, Said, error_of
from whisper_speedup.run.order import orders, subset
from whisper_speedup.run.processes import Processes
from whisper_speedup.run.rows import RoundsRecord, Turn, TurnsRecord
from whisper_speedup.run.source import Stage
from whisper_speedup.run.starts import together

# Seconds to wait for an answer. Genuine Kernl warms up for a quarter of an hour, and is known to hang.
LOAD_S, TURN_S, END_S = 10800.0, 7200.0, 120.0
T = TypeVar("T", Loaded, Asks, Rows, Ended)


def run(profile: Profile, profile_name: str, params: Params, build: Path = Path("build")) -> Path:
    """Let the baseline and the engines of `params` take turns; writes build/PROFILE/rounds/ and returns that folder.

    rounds.jsonl has the turns in the order of time, rounds.json what they were made with, each engine's conditions, and
    who was left out. Both are empty with `measure.rounds: null`. Raises UserError; nothing is written then.
    """
    folder = build / profile_name
    asked = profile.measure.rounds
    about, turns = RoundsRecord(profile=profile_name, rounds=asked), list[Turn]()
    if asked is not None:
        manifest_path = folder / "data" / "manifest.jsonl"
        chosen = [Item(at, row) for at, row in enumerate(subset(read_manifest(manifest_path), asked.clips))]
        if not chosen:
            raise UserError(f"{manifest_path} lists no readable clip: run the data stage again (dvc repro).")
        once = profile.measure.model_copy(update={"repeats": 1})
        job = Job(
            profile.model_copy(update={"measure": once}), BASELINE, create,
            Checked(checked_folder(folder / "model.json")), Kept(Clips(manifest_path, once.features), chosen),
            warmup=chosen, extras=False, rests=True,
        )  # fmt: skip
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        engines = [BASELINE, *(engine for engine in dict.fromkeys(params.engines) if engine != BASELINE)]
        turns, told, left_out = take_turns([replace(job, engine=engine) for engine in engines], asked)
        about = about.but(
            data_sha256=sha256(manifest_path), weights_sha256=read_checkpoint(folder / "model.json").weights_sha256,
            clips=[item.row.id for item in chosen], started=started, seconds=time.perf_counter() - begin,
            engines=told, left_out=left_out,
        )  # fmt: skip
    write_jsonl(folder / Stage.ROUNDS / "rounds.jsonl", (turn.content() for turn in turns))
    write_json(folder / Stage.ROUNDS / "rounds.json", about.content())
    return folder / Stage.ROUNDS


def take_turns(jobs: list[Job], asked: RoundsParams) -> tuple[list[Turn], dict[str, TurnsRecord], dict[str, str]]:
    """All turns; what each engine says of itself; and who was left out, with the reason. Raises UserError.

    All processes are started `asked.starts` times, for a start draws memory layout and the like anew, and the rounds of
    one start share them. Who finds no room once is left out of them all.
    """
    turns: list[Turn] = []
    told: dict[str, list[TurnsRecord]] = {}
    left_out: dict[str, str] = {}
    for number in range(1, asked.starts + 1):
        found, said = one_start([job for job in jobs if job.engine not in left_out], asked, number, left_out)
        turns += found
        for engine, one in said.items():
            told.setdefault(engine, []).append(one)
    turns = [turn for turn in turns if turn.engine not in left_out]
    return turns, {engine: together(all) for engine, all in told.items() if engine not in left_out}, left_out


def one_start(
    jobs: list[Job], asked: RoundsParams, number: int, left_out: dict[str, str]
) -> tuple[list[Turn], dict[str, TurnsRecord]]:
    """Start number `number` (from 1) of the processes: its turns, and what each engine says of itself.

    Adds to `left_out`. One engine works at a time: the next is asked only when the one before rests.
    """
    here = "rounds" if asked.starts == 1 else f"rounds, start {number} of {asked.starts}"
    players: dict[str, Player] = {}
    turns: list[Turn] = []
    with ExitStack() as open_players:
        for job in jobs:
            with ExitStack() as unless_loaded:
                player = unless_loaded.enter_context(closing(Player(job)))
                try:
                    player.load()
                except (NoRoomError, LeftOutError) as reason:
                    left_out[job.engine] = str(reason)
                else:
                    players[job.engine] = player
                    open_players.push(unless_loaded.pop_all())
            say(f"{here}: {job.engine} {'is left out' if job.engine in left_out else 'is ready'}")
        if BASELINE in left_out or len(players) < 2:
            why = next(iter(left_out.values()), "params.yaml names no engine beside it")
            raise UserError(
                "rounds need the baseline and another engine in memory at the same time, and only"
                f" {next(iter(players), 'none')} fits ({why.removesuffix('.')}): set measure.rounds to null."
            )
        # Of all starts together, so that who comes first, second and so on is even over them.
        order = orders(list(players), asked.starts * asked.count, asked.seed)
        first = (number - 1) * asked.count
        places = [(one, place, engine)
                  for one in range(first + 1, first + asked.count + 1)
                  for place, engine in enumerate(order[one - 1], 1)]  # fmt: skip
        for one, place, engine in track(places, here, "turn"):
            turns += [turn(number, one, place, engine, decoded) for decoded in players[engine].turn()]
        return turns, {engine: player.end() for engine, player in players.items()}


class Player:
    """An engine in a process that stays: loaded and warmed up once, it decodes whenever it is its turn."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.heard: deque[Said] = deque()
        self.pool = Processes([job])
        self.pool.start(0)

    def load(self) -> None:
        """Raises NoRoomError where the GPU's memory does not hold it beside the others."""
        self.loaded: Loaded | None = None
        self.loaded = self._hear(Loaded, LOAD_S)
        self._hear(Asks, END_S)

    def turn(self) -> list[Decoded]:
        """Each clip once. It rests again when this returns."""
        self.pool.give(0, self.job.warmup)
        rows = self._hear(Rows, TURN_S).rows
        self._hear(Asks, END_S)
        return rows

    def end(self) -> TurnsRecord:
        """What was measured of the process itself."""
        assert self.loaded is not None, "load first"
        self.pool.give(0, [])
        ended = self._hear(Ended, END_S)
        return TurnsRecord(
            **dict(self.loaded.own), load_s=self.loaded.load_s, warmup_s=self.loaded.warmup_s,
            memory=ended.measured.memory, conditions=ended.measured.conditions.during, waiting=ended.waiting,
        )  # fmt: skip

    def close(self) -> None:
        """End the process, if it has not ended."""
        self.pool.close()

    def _hear(self, kind: type[T], limit_s: float) -> T:
        """What it says next. Raises UserError."""
        until = time.monotonic() + limit_s
        while not self.heard:
            if (left_s := until - time.monotonic()) <= 0:
                raise EngineLost(f"{self.job.engine} gave no answer within {limit_s:.0f} s and was ended.")
            self.heard += [said for _, said in self.pool.hear(left_s)]
        said = self.heard.popleft()
        if isinstance(said, Failed | Lost) and said.full and self.loaded is None:
            raise NoRoomError(said.why)
        if isinstance(said, Failed | Bug | Lost):
            raise error_of(said, self.job.engine)
        assert isinstance(said, kind)
        return said


def turn(start: int, number: int, place: int, engine: str, decoded: Decoded) -> Turn:
    """The row of a clip."""
    row = decoded.row
    return Turn(
        start=start, round=number, place=place, engine=engine, clip=row.id,
        seconds=row.seconds and row.seconds[0], device_seconds=row.device_seconds and row.device_seconds[0],
        tokens=None if row.tokens is None else len(row.tokens), error=row.error,
    )  # fmt: skip
