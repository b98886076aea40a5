"""Does a second GPU double the rate? The same set on one worker and on more, one JSON a run, kind `throughput`.

    python benchmarks/scaling.py --size large-v2 --utterances 2620 --workers 1 2
    python benchmarks/scaling.py --size tiny.en --utterances 60 --workers 1 2 --report throughput-tiny

Workers are processes of this host, as `measure.workers` starts them, one a GPU (without GPUs each has its share of the
cores): the crew, the chunks and the messages are the stage's, rows are counted instead of written. Engine fused_batch
with synthetic weights and a set like throughput.py's, whose docstring has the distribution: end-of-text is forbidden,
each utterance ends at a number of steps drawn beforehand, and features are made of noise by the workers. `--report`
also leaves the rows in reports/NAME/scaling.json, where the page draws its curve from. Seconds are from the first
utterance handed out, once all workers have loaded and warmed up, to the last row.
"""

import argparse
import math
import random
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import device_label, record
from settings import generation_params, measure_params

from whisper_speedup.checkpoints import synthetic, vocabulary
from whisper_speedup.disk.files import write_json
from whisper_speedup.engines.fused_batch import FusedBatch
from whisper_speedup.params.profile import GenerationParams, MeasureParams, Profile
from whisper_speedup.run.crew import Crew, Finished
from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import Item, Loaded, Rows
from whisper_speedup.run.processes import Processes, visible_gpus
from whisper_speedup.run.rows import WorkerFigures
from whisper_speedup.run.source import package_sha256
from whisper_speedup.run.waiting import Waiting

# As in throughput.py: LibriSpeech test-clean's durations, tokens a second of speech, and the search's extra steps.
MEAN_S, MEDIAN_S, SHORTEST_S, LONGEST_S = 7.42, 5.79, 1.3, 30.0
TOKENS_A_SECOND, OVERSHOOT, LIMIT, RATE = 3.3, 2, 50, 16000
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Drawn:
    """An utterance of the set, in place of a manifest's row."""

    id: str
    duration_s: float
    begin: int
    error: None = None


class Endless(FusedBatch):
    """The engine with synthetic weights, made where it runs."""

    size = "tiny.en"

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Make the weights, and forbid end-of-text."""
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        model = synthetic.make(self.size, 0, device, dtype)  # type: ignore[arg-type]
        longest = model.config.max_target_positions
        self.use(model, generation_params(generation.num_beams, LIMIT, min_length=longest), device)


def endless(name: str, measure: MeasureParams, size: str) -> FusedBatch:
    """A crew's engine."""
    engine = Endless(measure.of("fused_batch"))
    engine.size = size
    return engine


@dataclass(frozen=True)
class Noise:
    """A crew's features: log-mel of stretches of one noise."""

    size: str

    def visible(self) -> bool:
        """There are no files."""
        return True

    def open(self, model_dir: Path, device: torch.device) -> Any:
        """From an item to features on the host: the engine copies them."""
        from transformers import WhisperFeatureExtractor

        extractor = WhisperFeatureExtractor(feature_size=synthetic.SIZES[self.size].mels)  # type: ignore[index]
        noise = np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32) * 0.1

        def features_of(item: Item) -> torch.Tensor:
            row: Any = item.row
            samples = noise[row.begin : row.begin + int(row.duration_s * RATE)]
            return extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features.to(torch.float32)

        return features_of


@dataclass(frozen=True)
class Tokenizer:
    """A crew's weights: a folder with nothing in it but the stand-in tokenizer."""

    path: Path
    size: str

    def folder(self) -> Path:
        """Write and return it."""
        layout = vocabulary.LAYOUTS[synthetic.SIZES[self.size].vocab_size]  # type: ignore[index]
        write_json(self.path / "normalizer.json", {})
        write_json(self.path / "tokenizer_config.json", vocabulary.tokenizer_config(layout))
        write_json(
            self.path / "tokenizer.json", vocabulary.tokenizer_json(layout, synthetic.words(layout.text), merges=[])
        )
        return self.path


def main() -> None:
    """Run each number of workers, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--utterances", type=int, default=2620)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--slots", default="auto", type=lambda text: text if text == "auto" else int(text))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, help="of each worker on a host without GPUs: its share of the cores")
    parser.add_argument("--report", help="a profile, whose page is to draw the curve")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    drawn = draw(arguments.utterances)
    rows: list[dict[str, Any]] = []
    label = device_label(torch.device("cuda" if on_gpu else "cpu"))
    for count in arguments.workers:
        rows.append(run(arguments, count, drawn, on_gpu))
        row = rows[-1]
        row["speedup"] = row["utterances_per_s"] / rows[0]["utterances_per_s"]
        print(
            f"{row['model']}, {count} workers: {row['utterances']} utterances in {row['seconds']:.2f} s,"
            f" {row['utterances_per_s']:.2f} a second, RTFx {row['rtfx']:.0f}, {row['speedup']:.3f} times the first",
            flush=True,
        )
    print(record("throughput", label, arguments.out, rows=rows))
    if arguments.report:
        write_json(ROOT / "reports" / arguments.report / "scaling.json", {"rows": rows})


def draw(count: int) -> list[tuple[Drawn, int]]:
    """The set, the longest first, each with its number of steps."""
    chance = random.Random(0)
    sigma = math.sqrt(2 * math.log(MEAN_S / MEDIAN_S))
    found = []
    for number in range(count):
        duration = min(max(chance.lognormvariate(math.log(MEDIAN_S), sigma), SHORTEST_S), LONGEST_S)
        steps = min(LIMIT, max(1, round(TOKENS_A_SECOND * duration)) + OVERSHOOT)
        found.append((Drawn(f"noise-{number:05d}", duration, chance.randrange(30 * RATE)), steps))
    return sorted(found, key=lambda one: -one[0].duration_s)


def run(arguments: argparse.Namespace, count: int, drawn: list[tuple[Drawn, int]], on_gpu: bool) -> dict[str, Any]:
    """The set on so many workers; the row."""
    gpus = visible_gpus(torch.cuda.device_count())[:count] if on_gpu else []
    if on_gpu and len(gpus) < count:
        raise SystemExit(f"{count} workers need {count} GPUs, and this host has {torch.cuda.device_count()}.")
    threads = None if on_gpu else arguments.threads or max(1, torch.get_num_threads() // count)
    profile = Profile.model_construct(
        measure=measure_params("cuda" if on_gpu else "cpu", slots=arguments.slots),
        generation=generation_params(arguments.beams, LIMIT),
    )
    with tempfile.TemporaryDirectory() as folder:
        items = [Item(at, one, max_length=steps) for at, (one, steps) in enumerate(drawn)]  # type: ignore[arg-type]
        job = Job(
            profile, "fused_batch", partial(endless, size=arguments.size), Tokenizer(Path(folder), arguments.size),
            Noise(arguments.size), warmup=items[:1], threads=threads, extras=False,
        )  # fmt: skip
        pool = Processes([job] * count, gpus)
        crew = Crew(pool, count, lambda numbers, _: [items[n] for n in numbers], package_sha256())
        begin, workers, rows, device = time.perf_counter(), list[WorkerFigures](), 0, ""
        last = begin
        with closing(crew.run()) as messages:
            for message in messages:
                if isinstance(message, Loaded):
                    crew.waiting, device = Waiting(range(len(items)), count), message.device_name
                elif isinstance(message, Rows):
                    rows, last = rows + len(message.rows), time.perf_counter()
                    failed = [one.row.error for one in message.rows if one.row.error]
                    assert not failed, failed[0]
                elif isinstance(message, Finished):
                    workers = message.workers
        assert rows == len(items)
    begun = crew.waiting.begun or begin
    seconds, audio_s = last - begun, sum(one.duration_s for one, _ in drawn)
    streams = [one.stream for one in workers if one.stream]
    encoder, decoder = (sum(one[key] for one in streams) for key in ("encoder_s", "decoder_s"))
    return {
        "engine": "fused_batch", "model": arguments.size, "trained": False, "beams": arguments.beams,
        "gpus": len(gpus), "workers": count, "device": device, "threads": threads, "utterances": rows,
        "seconds": seconds, "utterances_per_s": rows / seconds, "audio_s": audio_s, "rtfx": audio_s / seconds,
        "encoder_share": encoder / (encoder + decoder), "start_s": begun - begin,
        "of_each": [one.content() for one in workers],
    }  # fmt: skip


if __name__ == "__main__":
    main()
