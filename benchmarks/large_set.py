"""Does a set of 100,000 utterances decode in constant memory? One JSON a run, kind `large-set`.

    python benchmarks/large_set.py --utterances 100000
    python benchmarks/large_set.py --utterances 3000 --out /tmp

In a temporary folder: a generated manifest, a tokenizer, and an engine that listens to nothing and answers at once, so
that what is measured is everything around it: the manifest, the handing out, the texts, the rows on the disk, the
results. The decode stage runs as it does for any engine, in a process of its own, which notes its resident memory at
each tenth of the way and at the end, when the results have been written. Then it is begun again with half of its rows
on the disk, as after an interruption; and once with workers that answer at once with rows made beforehand, which leaves
the driver's own work: its rate says how many GPUs one driver can serve. `growth_bytes` is from the first tenth to the
largest value after it.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from record import record

from whisper_speedup.checkpoints import synthetic, vocabulary
from whisper_speedup.checkpoints.folder import records
from whisper_speedup.disk.files import read_json, write_json, write_jsonl
from whisper_speedup.engines.protocol import Generation, Outcome, Utterance
from whisper_speedup.measure.records import Memory, Reading
from whisper_speedup.params.profile import GenerationParams, Profile
from whisper_speedup.run import benchmark
from whisper_speedup.run.crew import Crew
from whisper_speedup.run.messages import Asks, Decoded, Ended, Item, Loaded, Rows
from whisper_speedup.run.rows import Conditions, Measured, Result, Setup, Waited

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 64
ENGINE = "fused_batch"  # whose name and settings the silent one borrows


class Silent:
    """A batch engine without a model. `sizes`: resident bytes at each tenth of the way."""

    name = ENGINE
    dtype = "float32"
    sizes: list[int]

    def __init__(self, total: int) -> None:
        self.settings: dict[str, Any] = {"slots": 64}
        self.prompt: list[int | None] = [2]
        self.total, self.count, self.sizes = total, 0, []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Nothing to load."""

    def warm_up(self, features: torch.Tensor) -> None:
        """Nothing to warm up."""

    def generate(self, features: torch.Tensor) -> Generation:
        """Never asked."""
        raise AssertionError

    def decode_stream(self, utterances: Iterable[Utterance]) -> Iterator[tuple[int, Outcome]]:
        """Forty tokens for each, made of its number."""
        for utterance in utterances:
            tokens = [256 + (utterance.index * 31 + place * 7) % 20000 for place in range(40)]
            yield utterance.index, Generation(tokens, -0.5, False, 0.01)
            self.count += 1
            if self.count % max(1, self.total // 10) == 0:
                self.sizes.append(resident())

    def stream_summary(self) -> dict[str, float]:
        """Made up: nothing was computed."""
        return {"seconds": 1.0, "utterances": self.count, "encoder_s": 0.5, "decoder_s": 0.5, "steps": 1, "slots": 64}

    def close(self) -> None:
        """Nothing to give back."""


class Ready:
    """A pool of workers that answer each chunk at once, with rows like an engine's."""

    def __init__(self, engine: Silent) -> None:
        self.engine, self.said = engine, deque[tuple[int, Any]]()

    def start(self, number: int) -> None:
        """It is there at once."""
        setup = Setup(settings={}, prompt=[2], device="cpu", dtype="float32", threads=1, environment={})
        loaded = Loaded(
            setup, elsewhere=None, device_name="none", slots=1, batched=True, source_sha256="", sees_audio=True,
            load_s=0.0, warmup_s=0.0, conditions=Reading(),
        )  # fmt: skip
        self.said += [(number, loaded), (number, Asks(True))]

    def give(self, number: int, chunk: list[Item]) -> None:
        """Rows for it."""
        if not chunk:
            measured = Measured(memory=Memory(), conditions=Conditions(before=Reading(), after=Reading()))
            self.said.append((number, Ended(measured, Waited(seconds=0.0, cpu_s=0.0), 0.0, None)))
            return
        rows = []
        for item in chunk:
            text = f"token{item.at} " * 25
            row = Result(
                id=item.row.id, tokens=[256 + item.at % 20000] * 40, text=text, raw_text=text, score=-0.5,
                seconds=[0.01], truncated=False, error=None,
            )  # fmt: skip
            rows.append(Decoded(item.at, row, item.row.duration_s))
            self.engine.count += 1
            if self.engine.count % max(1, self.engine.total // 10) == 0:
                self.engine.sizes.append(resident())
        self.said += [(number, Rows(rows)), (number, Asks(True))]

    def hear(self, limit_s: float) -> list[tuple[int, Any]]:
        """What one worker says, as though from a socket."""
        return [self.said.popleft() for _ in range(min(2, len(self.said)))]

    def close(self) -> None:
        """Nothing runs."""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(psutil.Process().memory_info().rss)


def main() -> int:
    """Measure, write, print; 1 when memory grew by more than 64 bytes an utterance and 32 MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    out, rows = arguments.out.resolve(), []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        prepare(arguments.utterances)
        rows.append({"run": "whole", **in_a_process(arguments.utterances)})
        rows.append({"run": "resumed at half", **in_a_process(arguments.utterances - cut_in_half())})
        os.environ.pop("KEPT_ROWS")
        rows.append({"run": "driver alone", **in_a_process(arguments.utterances, driver_alone=True)})
        os.chdir(ROOT)
    allowed = 64 * arguments.utterances + 32 * 2**20
    for row in rows:
        print(
            f"{row['run']}: {row['utterances']} utterances, {row['utterances_per_s']:.0f} a second,"
            f" {row['first_bytes'] / 2**20:.0f} MiB at a tenth, {row['growth_bytes'] / 2**20:+.1f} MiB after it"
        )
    print(record("large-set", "cpu", out, allowed_growth_bytes=allowed, rows=rows))
    return int(any(row["growth_bytes"] > allowed for row in rows))


def prepare(count: int) -> None:
    """What the stages before `decode` leave."""
    manifest = (
        {
            "id": f"speaker-{number % 977}/chapter-{number // 977}/utterance-{number:07d}", "audio": "audio/one.flac",
            "sha256": "0" * 64, "duration_s": 1.0 + number % 29, "sampling_rate": 16000,
            "reference": f"the words of utterance {number} " * 4, "speaker": f"speaker-{number % 977}",
            "cut_from_s": None, "error": None,
        }
        for number in range(count)
    )  # fmt: skip
    write_jsonl(Path("build/large/data/manifest.jsonl"), manifest)
    weights, layout = Path("weights"), vocabulary.LAYOUTS[51865]
    for name, content in {
        "config": synthetic.config("tiny"),
        "generation_config": vocabulary.generation_config(layout, layout.suppressed, alignment_heads=None),
        "preprocessor_config": vocabulary.preprocessor_config(80),
        "tokenizer_config": vocabulary.tokenizer_config(layout),
        "tokenizer": vocabulary.tokenizer_json(layout, synthetic.words(layout.text), merges=[]),
        "normalizer": {},
    }.items():
        write_json(weights / f"{name}.json", content)
    (weights / "model.safetensors").write_bytes(b"none")  # nobody reads it
    model = {"source": "local", "name": "none", "revision": None, "path": "weights", "trained": False}
    write_json(Path("build/large/model.json"), {**model, "files": [file.content() for file in records(weights)]})


def cut_in_half() -> int:
    """Make the results of the whole run the rows of an interrupted one; how many are left."""
    run, half = Path("build/large/runs") / ENGINE, Path("half.jsonl")
    with (run / "results.jsonl").open("rb") as lines, half.open("wb") as kept:
        count = 0
        for number, line in enumerate(lines):
            if number % 2:
                kept.write(line)
                count += 1
    os.environ["KEPT_ROWS"] = str(half.resolve())
    return count


def in_a_process(left: int, driver_alone: bool = False) -> dict[str, Any]:
    """The stage in a process of its own; a row."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=stage, args=(theirs, left, driver_alone))
    process.start()
    theirs.close()
    row: dict[str, Any] = ours.recv()
    process.join()
    return row


def stage(answer: Any, left: int, driver_alone: bool) -> None:
    """Decode, and say what was measured."""
    engine = Silent(left)
    if driver_alone:
        benchmark.crew_for = lambda job, elsewhere, items, address: Crew(  # type: ignore[assignment]
            Ready(engine), WORKERS, items, ""
        )
    benchmark.create = lambda name, measure: engine  # type: ignore[assignment]
    kept = os.environ.get("KEPT_ROWS")
    if kept:
        put_back(Path(kept))
    content = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text(encoding="utf-8"))
    content["measure"] = {"device": "cpu", "warmup": 1}
    profile = Profile.model_validate(content)
    begin, busy = time.perf_counter(), time.process_time()
    run = benchmark.decode(profile, "large", ENGINE)
    seconds = time.perf_counter() - begin
    cpu_s = time.process_time() - busy  # what other jobs of the machine do not slow
    about = read_json(run / "run.json")
    engine.sizes.append(resident())
    with (run / "results.jsonl").open("rb") as lines:
        ids = {json.loads(line)["id"] for line in lines}
    told = about["throughput"]
    answer.send({
        "utterances": told["utterances"], "results": len(ids), "seconds": seconds, "cpu_s": cpu_s,
        "decode_s": told["seconds"],
        "utterances_per_s": told["utterances"] / told["seconds"], "resident_bytes": engine.sizes,
        "first_bytes": engine.sizes[0], "growth_bytes": max(engine.sizes) - engine.sizes[0],
    })  # fmt: skip


def put_back(kept: Path) -> None:
    """Let the next Partial find these rows behind its own header."""
    made = benchmark.Partial

    def opened(path: Path, key: Any, ids: Any, session: Any) -> Any:
        made(path, key, ids, session).close()
        with path.open("ab") as file, kept.open("rb") as rows:
            for line in rows:
                file.write(line)
        return made(path, key, ids, session)

    benchmark.Partial = opened  # type: ignore[assignment,misc]


if __name__ == "__main__":
    sys.exit(main())
