"""Kill the decode stage again and again: what it leaves in the end must be what an undisturbed run leaves.

    python benchmarks/kill_runs.py --kills 200 --points 1000
    python benchmarks/kill_runs.py --kills 5 --points 6 --out /tmp

In a temporary folder: tones, a broken file, and a random Whisper of a few kilobytes. Every process is a fork of this
one (which has imported all there is, so that a run takes a second and not ten) that runs the stage as
`python -m whisper_speedup decode` does, and is ended by SIGKILL, which no code of ours can see coming.

Random points: --kills times, at a moment drawn evenly from an undisturbed run's length, or for half of them from its
decoding, counted from the moment at which the rows' file is opened; the stage is started again until it ends by
itself. Then the next run begins. File operations: before each write, rename, removal or flush of one run (and with half
of a write done) it is killed once, --points at most, and then runs to its end.

After each kill, rows that were on the disk must still be there, byte for byte, and none twice; results.jsonl and
run.json must be whole or absent. After each run's end, both must be those of the undisturbed run but for times (FREE),
rows that were kept must have kept their seconds, and nothing else may be left in the folder. Exit code 1 when anything
was not so.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from record import record

from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints import synthetic, vocabulary
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.cli import main as stage
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.params.sources import Folder, Local
from whisper_speedup.run import benchmark  # noqa: F401  (imported here so that the forks need not)

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 8
# What may differ between two runs of the same: times, memory, and what was read off the machine meanwhile.
FREE = {
    "load_s", "warmup_s", "decode_s", "memory", "started", "conditions", "resumed_from", "breakdown", "step_floor",
    "results_sha256", "throughput", "workers",
}  # fmt: skip
OPERATIONS = ("open", "write", "ftruncate", "fdatasync", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


@dataclass
class Tally:
    """What was tried and what went wrong, `lost` in words."""

    kills: int = 0
    runs: int = 0
    rows_kept: int = 0
    lost: list[str] = field(default_factory=list)


def main() -> int:
    """Prepare, kill, write, print; 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at random points")
    parser.add_argument("--points", type=int, default=1000, help="at file operations, at most")
    parser.add_argument("--engines", nargs="+", default=["fused", "huggingface"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    out = arguments.out.resolve()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        prepare_folder()
        for engine in arguments.engines:
            rows += attack(Attack(engine, random.Random(arguments.seed)), arguments.kills, arguments.points)
        os.chdir(ROOT)
    lost = sum(len(row["lost"]) for row in rows)
    print(record("kills", "cpu", out, seed=arguments.seed, utterances=CLIPS, lost=lost, rows=rows))
    return 1 if lost else 0


def prepare_folder() -> None:
    """What the stages before `decode` leave, in the working directory."""
    import numpy as np
    import soundfile

    Path("tones").mkdir()
    for number in range(CLIPS - 1):
        tone = 0.1 * np.sin(2 * np.pi * (300 + 100 * number) * np.arange(8000) / 16000)
        soundfile.write(f"tones/{number}.wav", tone, 16000)
    Path("tones/broken.wav").write_bytes(b"RIFF")
    write_whisper(Path("whisper"))
    manifest.prepare(Folder(source="folder", path="tones"), Path("build/small/data"))
    write_json(Path("build/small/model.json"), prepare(Local(source="local", path="whisper")).content())
    profile = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text(encoding="utf-8"))
    profile["generation"] = {"num_beams": 2, "max_length": 8}
    profile["measure"] = {"device": "cpu", "threads": 1}
    Path("profiles").mkdir()
    Path("profiles/small.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")


def write_whisper(folder: Path) -> None:
    """A random Whisper with a window of 30 s, 16 wide and one layer deep, whose texts differ from clip to clip."""
    from safetensors.torch import save_file
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder.mkdir()
    layout = vocabulary.Layout(text=256, languages=99, multilingual=True)
    size = 1 + max(layout.timestamps.values())
    config = {
        "model_type": "whisper", "vocab_size": size, "num_mel_bins": 8, "d_model": 16, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "max_source_positions": 1500, "max_target_positions": 32, "pad_token_id": 256,
        "bos_token_id": 256, "eos_token_id": 256, "decoder_start_token_id": 257, "suppress_tokens": [],
        "begin_suppress_tokens": [],
    }  # fmt: skip
    contents = {
        "config": config,
        "generation_config": vocabulary.generation_config(layout, [*range(257, size)], None),
        "preprocessor_config": vocabulary.preprocessor_config(8),
        "tokenizer": vocabulary.tokenizer_json(layout, synthetic.words(256), []),
        "tokenizer_config": vocabulary.tokenizer_config(layout),
        "normalizer": {},
    }
    for name, content in contents.items():
        write_json(folder / f"{name}.json", content)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config))
    state = {key: value * 8 for key, value in model.state_dict().items() if key != "proj_out.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


class Attack:
    """Runs of one engine, each compared with an undisturbed one."""

    def __init__(self, engine: str, chance: random.Random) -> None:
        self.engine, self.chance = engine, chance
        self.run = Path("build/small/runs") / engine
        self.partial = Path("build/small/partial") / f"{engine}.jsonl"
        begin = time.perf_counter()
        if code := self.child():
            raise SystemExit(f"the undisturbed run ended with {code}: {Path('stderr').read_text()}")
        self.length_s = time.perf_counter() - begin
        self.decode_s = 1.2 * read_json(self.run / "run.json")["decode_s"]
        self.expected = self.result()
        self.left = self.files()
        self.kept: dict[str, str] = {}

    def child(self, kill: Callable[[int], None] | None = None, inside: Callable[[], None] | None = None) -> int | None:
        """Run the stage in a fork; its exit code, None when it was killed. `kill` is called with its process id."""
        process = os.fork()
        if process == 0:
            code = 70
            try:
                file = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                os.dup2(file, 2)
                if inside:
                    inside()
                stage(["decode", "--engine", self.engine, "--profile", "small"])
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os._exit(code)
        if kill:
            kill(process)
        status = os.waitpid(process, 0)[1]
        return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)

    def wait_for_rows(self, process: int) -> None:
        """Until this process has opened the partial file, or has ended."""
        before = self.partial.stat().st_size if self.partial.is_file() else 0
        while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if self.partial.is_file() and self.partial.stat().st_size != before:
                return
            time.sleep(0.001)

    def begin(self) -> None:
        """Forget the run before."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.kept = {}

    def check_kill(self, tally: Tally) -> None:
        """What a kill has left."""
        rows = self.rows_on_disk()
        names = [json.loads(row)["id"] for row in rows]
        if len(set(names)) != len(names):
            tally.lost.append(f"a row twice: {names}")
        found = dict(zip(names, rows, strict=True))
        finished = (self.run / "run.json").is_file()
        for name, row in self.kept.items():
            if found.get(name) != row and not finished:
                tally.lost.append(f"{name} is gone or changed")
        self.kept |= found
        if (self.run / "results.jsonl").is_file():
            self.result(only_rows=not finished)

    def check_end(self, code: int | None, tally: Tally) -> None:
        """What a run that ended by itself has left."""
        tally.runs += 1
        if code != 0:
            tally.lost.append(f"exit code {code}: {Path('stderr').read_text()[-500:]}")
            return
        if self.result() != self.expected:
            tally.lost.append("the result is another one")
        if (files := self.files()) != self.left:
            tally.lost.append(f"left behind: {sorted(files ^ self.left)}")
        final = {json.loads(line)["id"]: line for line in self.lines(self.run / "results.jsonl")}
        for name, row in self.kept.items():
            if final[name] != row:
                tally.lost.append(f"{name} was decoded twice")
        resumed = sum(session["rows"] for session in read_json(self.run / "run.json")["resumed_from"] or [])
        if resumed != len(self.kept):
            tally.lost.append(f"run.json speaks of {resumed} earlier rows, and there were {len(self.kept)}")
        tally.rows_kept += resumed

    def result(self, only_rows: bool = False) -> tuple[bytes, bytes]:
        """results.jsonl and run.json without what is free to differ, as bytes."""
        rows = [json.loads(line) for line in self.lines(self.run / "results.jsonl")]
        texts = "".join(json.dumps({**row, "seconds": row["seconds"] and len(row["seconds"])}) + "\n" for row in rows)
        about = {} if only_rows else read_json(self.run / "run.json")
        return texts.encode(), json.dumps({key: about[key] for key in sorted(about) if key not in FREE}).encode()

    def rows_on_disk(self) -> list[str]:
        """The lines of the partial file that hold a whole row with an output."""
        if not self.partial.is_file():
            return []
        whole = [line for line in self.lines(self.partial) if line.startswith('{"id"')]
        return [line for line in whole if json.loads(line)["error"] is None]

    def lines(self, path: Path) -> list[str]:
        """Every line that has its line break; the one that follows may be torn in the middle of a letter."""
        return [line.decode("utf-8") for line in path.read_bytes().split(b"\n")[:-1]]

    def files(self) -> set[str]:
        """Every file under build/small."""
        return {str(path) for path in Path("build/small").rglob("*") if path.is_file()}


def attack(target: Attack, kills: int, points: int) -> list[dict[str, Any]]:
    """Both kinds of kills; a row of the record each."""
    return [
        {"engine": target.engine, "kind": kind, "undisturbed_s": target.length_s, **vars(tally)}
        for kind, tally in (
            ("random points", at_random(target, kills)), ("file operations", at_operations(target, points)),
        )
    ]  # fmt: skip


def at_random(target: Attack, kills: int) -> Tally:
    """Kill at random moments until so many kills have hit a running stage."""
    tally = Tally()
    while tally.kills < kills:
        target.begin()
        patience = 1.0  # a machine that has become busier must not end every run at the same place
        while True:
            late = target.chance.random() < 0.5
            delay = patience * target.chance.uniform(0, target.decode_s if late else target.length_s)
            patience *= 1.15

            def kill(process: int, delay: float = delay, late: bool = late) -> None:
                if late:
                    target.wait_for_rows(process)
                time.sleep(delay)
                os.kill(process, signal.SIGKILL)  # of a child that has ended and is not waited for: no one else's id

            code = target.child(kill)
            if code is not None:
                break
            tally.kills += 1
            target.check_kill(tally)
            if tally.kills >= kills:
                code = target.child()
                break
        target.check_end(code, tally)
        say(target, "random points", tally, kills)
    return tally


def at_operations(target: Attack, points: int) -> Tally:
    """Kill before each file operation of a run, and in the middle of each write."""
    tally = Tally()
    Path("count").unlink(missing_ok=True)
    target.begin()
    target.child(inside=lambda: count_operations(None, half=False))
    count = int(Path("count").read_text())
    places = [(number, half) for number in range(count) for half in (False, True)]
    for number, half in target.chance.sample(places, min(points, len(places))):
        target.begin()
        if target.child(inside=lambda number=number, half=half: count_operations(number, half)) is None:  # type: ignore[misc]
            tally.kills += 1
            target.check_kill(tally)
            target.check_end(target.child(), tally)
        elif not half:  # only a write has a half
            tally.lost.append(f"no operation {number}")
        if tally.kills % 25 == 0:
            say(target, "file operations", tally, len(places))
    say(target, "file operations", tally, tally.kills)
    return tally


def count_operations(last: int | None, half: bool) -> None:
    """In a fork: count calls of os's file operations, and be killed at number `last`; `half`: with half a write done.

    Without `last` their number is written to the file `count` at the end.
    """
    seen = 0

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            if seen == last and (not half or name == "write"):
                if half:
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            return call(*arguments, **options)

        return operation

    for name in OPERATIONS:
        setattr(os, name, watched(name, getattr(os, name)))
    if last is None:
        end = os._exit

        def tell(code: int) -> None:
            Path("count").write_text(str(seen))
            end(code)

        os._exit = tell  # type: ignore[assignment]


def say(target: Attack, kind: str, tally: Tally, wanted: int) -> None:
    """A line of progress."""
    print(
        f"{target.engine}, {kind}: {tally.kills} of {wanted} kills, {tally.runs} runs, {tally.rows_kept} rows kept,"
        f" {len(tally.lost)} lost {tally.lost[:3] or ''}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
