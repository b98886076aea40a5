"""One engine in a process of its own, which loads and warms up once, and then decodes whenever it is its turn.

stage.py starts it. They exchange JSON lines, a request a line on standard input, an answer a line on standard output:

    {"do": "load", "engine", "profile": content, "model": folder, "manifest": file, "clips": [ids]}
        ->  {"loaded": settings, dtype, device, threads, prompt, environment, load_s, warmup_s}
        or  {"no_room": one sentence} where the GPU's memory does not hold this engine beside the others
    {"do": "turn"}  ->  {"rows": [{clip, seconds, device_seconds, tokens, error}]}
    {"do": "end"}   ->  {"about": memory, conditions, waiting}

Whatever else goes wrong is {"error": one sentence}. Between turns it waits in a read, and samples nothing.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperFeatureExtractor

from whisper_speedup.audio import manifest
from whisper_speedup.audio.features import features_on
from whisper_speedup.engines.create import create
from whisper_speedup.engines.protocol import Elsewhere, Engine
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.measure import device as devices
from whisper_speedup.measure import memory
from whisper_speedup.measure.clock import synchronize
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.measure.sampler import Sampler
from whisper_speedup.params.profile import Profile
from whisper_speedup.run.decoding import warm_up
from whisper_speedup.run.timed import timed

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    serve(sys.stdin, say)


def serve(requests: Iterable[str], say: Say) -> None:
    """Answer each request; the first that fails is the last."""
    worker: Worker | None = None
    try:
        for line in requests:
            request = json.loads(line)
            if request["do"] == "load":
                worker = Worker(request)
                say({"loaded": worker.load()})
            elif worker is not None:
                say({"rows": worker.turn()} if request["do"] == "turn" else {"about": worker.end()})
    except Exception as error:
        if devices.full(error):
            # Once it has run, what failed is no start that could be left out.
            say({"no_room" if worker is None or not worker.loaded else "error": _sentence(error)})
        elif isinstance(error, UserError) or devices.failure(error):
            say({"error": _sentence(error)})
        else:
            raise


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else devices.failure(error) or str(error)


class Worker:
    """The engine, its clips' features (on the device), and a record of the turns."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request, self.loaded = request, False

    def load(self) -> dict[str, Any]:
        """Load, warm up, and say how the engine runs. Raises UserError."""
        profile = Profile.model_validate(self.request["profile"])
        measure = profile.measure
        self.engine: Engine = create(self.request["engine"], measure)
        self.device = devices.resolve(measure.device)
        if measure.threads is not None:
            torch.set_num_threads(measure.threads)
        model_dir, path = Path(self.request["model"]), Path(self.request["manifest"])
        extractor = WhisperFeatureExtractor.from_pretrained(model_dir)
        rows = {row.id: row for row in manifest.read(path)}
        clips = [rows[name] for name in self.request["clips"]]
        # All read before any is timed, so that a turn is decoding and nothing else.
        self.features = {
            row.id: features_on(self.device, manifest.load_audio(path, row), extractor, measure.features)
            for row in clips
        }  # fmt: skip
        begin = time.perf_counter()
        self.engine.load(model_dir, profile.generation, self.device)
        synchronize(self.device)
        load_s = time.perf_counter() - begin
        begin = time.perf_counter()
        warm_up(self.engine, clips, lambda row: self.features[row.id], measure.warmup)
        synchronize(self.device)
        warmup_s = time.perf_counter() - begin
        self.loaded = True
        self.sampler = Sampler(self.device)
        self.waited_s = self.waited_cpu_s = 0.0
        self._rest()
        return {
            "settings": self.engine.settings,
            "dtype": self.engine.dtype,
            "prompt": self.engine.prompt,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "environment": fingerprint(),
            "load_s": load_s,
            "warmup_s": warmup_s,
        }

    def turn(self) -> list[dict[str, Any]]:
        """Each clip once. Raises EngineLost."""
        self.waited_s += time.perf_counter() - self.resting[0]
        self.waited_cpu_s += time.process_time() - self.resting[1]
        with self.sampler:
            rows = [self._decoded(name, features) for name, features in self.features.items()]
        self._rest()
        return rows

    def end(self) -> dict[str, Any]:
        """What was measured of the process itself; the engine is closed.

        `waiting`: how long it waited for its turns, and the processor seconds that it took meanwhile.
        """
        about: dict[str, Any] = {
            "memory": memory.snapshot(self.device),
            "conditions": self.sampler.summary(),
            "waiting": {"seconds": self.waited_s, "cpu_s": self.waited_cpu_s},
        }
        if isinstance(self.engine, Elsewhere):
            about |= self.engine.process()
        self.engine.close()
        return about

    def _decoded(self, name: str, features: torch.Tensor) -> dict[str, Any]:
        row: dict[str, Any] = {"clip": name, "seconds": None, "device_seconds": None, "tokens": None, "error": None}
        try:
            found = timed(self.engine, features)
        except EngineLost:
            raise
        except UserError as error:
            return row | {"error": str(error)}
        tokens = len(found.generation.tokens)
        return row | {"seconds": found.seconds, "device_seconds": found.device_seconds, "tokens": tokens}

    def _rest(self) -> None:
        self.resting = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
