"""Engines that only listen, for workers in other processes: found there by import, told what to do by files."""

import os
import queue
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from whisper_speedup.disk.progress import Progress
from whisper_speedup.engines.protocol import Generation, Outcome, Utterance
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import GenerationParams, MeasureParams


class Hearing:
    """Tokens that depend on the clip alone.

    Files in `folder` say what happens in some worker's third utterance, once: `kill` ends that worker by SIGKILL, and
    `kill_driver` the process whose number is in it. `fatal` holds a token that ends every worker that hears it,
    `refuses` keeps the engine from loading, and `talkative` makes rows larger than a page of a disk. Each worker leaves
    a file pid.NUMBER.
    """

    name = "hearing"
    dtype = "float32"
    slots = 1

    def __init__(self, folder: Path) -> None:
        self.folder, self.heard = folder, 0
        self.settings: dict[str, Any] = {"precision": "float32"}
        self.prompt: list[int | None] = [2]

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        if (self.folder / "refuses").exists():
            raise UserError("not here.")
        (self.folder / f"pid.{os.getpid()}").touch()

    def warm_up(self, features: torch.Tensor) -> None:
        with Progress("warming up", 1, "length") as progress:
            progress.advance()

    def generate(self, features: torch.Tensor) -> Generation:
        self.heard += 1
        if self.heard == 3:
            self._obey("kill")
            self._obey("kill_driver")
        token = int(features.abs().sum().item() * 1000) % 200
        if (self.folder / "fatal").exists() and int((self.folder / "fatal").read_text()) == token:
            os.kill(os.getpid(), signal.SIGKILL)
        more = [100] * 2000 if (self.folder / "talkative").exists() else []
        return Generation(tokens=[token, *more], score=-token / 7, truncated=False)

    def _obey(self, name: str) -> None:
        """In the one process that finds the file."""
        mine = self.folder / f"{name}.{os.getpid()}"
        try:
            os.rename(self.folder / name, mine)
        except FileNotFoundError:
            return
        os.kill(int(mine.read_text() or os.getpid()), signal.SIGKILL)

    def close(self) -> None:
        pass


class Streaming(Hearing):
    """The same as a batch engine of four slots: utterances end in another order than they began."""

    name = "streaming"
    slots = 4

    def decode_stream(self, utterances: Iterable[Utterance]) -> Iterator[tuple[int, Outcome]]:
        self.count = 0
        pulled: queue.Queue[Utterance | Exception | None] = queue.Queue(maxsize=2)

        def pull() -> None:
            try:
                for utterance in utterances:
                    pulled.put(utterance)
                pulled.put(None)
            except Exception as error:
                pulled.put(error)

        threading.Thread(target=pull, daemon=True).start()
        held: list[Utterance] = []
        more = True
        while more or held:
            while more and len(held) < self.slots and not (held and pulled.empty()):
                one = pulled.get()
                if isinstance(one, Exception):
                    raise one
                more = one is not None
                held += [one] if one is not None else []
            if held:
                yield self._ended(held.pop(0 if self.count % 2 else -1))

    def stream_summary(self) -> dict[str, float]:
        return {"seconds": 2.0, "utterances": self.count, "encoder_s": 0.5, "decoder_s": 1.0, "steps": 7, "slots": 4}

    def _ended(self, utterance: Utterance) -> tuple[int, Outcome]:
        self.count += 1
        try:
            return utterance.index, replace(self.generate(utterance.features()), seconds=0.25)
        except UserError as error:
            return utterance.index, error


def make(name: str, measure: MeasureParams, folder: Path) -> Hearing:
    """What stands in for engines.create.create."""
    return Streaming(folder) if name == "streaming" else Hearing(folder)


def maker(folder: Path) -> Any:
    """`make` for this folder, in a form that reaches other processes."""
    return partial(make, folder=folder)
