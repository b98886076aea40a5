"""Our engine with many utterances in flight: fixed slots, filled again as utterances end, behind BatchEngine.

On a GPU in half precision the slots' kernels (fused/batch_device.py), else plain torch (fused/batch_plain.py).
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from transformers import WhisperForConditionalGeneration

from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.engines import precision
from whisper_speedup.engines.huggingface import generate_arguments, quiet_transformers
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.engines.protocol import Generation, Outcome, Utterance
from whisper_speedup.errors import EngineLost, UserError
from whisper_speedup.fused.batch_plain import PlainSlots
from whisper_speedup.fused.batch_prefetch import Given, Prefetched, Waiting
from whisper_speedup.fused.batch_stream import Job, Slots, run_stream
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.device_checks import check_device, needed_bytes, triton_errors
from whisper_speedup.fused.launch import load_launch_config
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.measure.device import check_memory
from whisper_speedup.params.profile import GenerationParams

HELD = 64  # utterances that wait beside those in slots: features of large-v2 take 1 MB each
PLAIN_SLOTS = 4
MOST_WORKERS = 8  # threads that read audio and make features


class FusedBatchParams(PrecisionParams):
    """`slots`: how many utterances at once; `auto` is what the GPU's memory holds, at most 128, and 4 on a CPU."""

    slots: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"


class FusedBatch:
    """Decodes many utterances at once: the tokens of engine fused, but for the rounding of products with more rows."""

    name = "fused_batch"
    Params = FusedBatchParams
    setting = "measure.fused_batch.precision"

    def __init__(self, params: FusedBatchParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []
        self.dtype = ""  # known once loaded; there from the start, so that an instance shows it is a BatchEngine
        self.summary: dict[str, float] = {}

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load and pack the weights. Raises UserError for settings, or a GPU, that the engine does not serve."""
        quiet_transformers()
        dtype = torch.float16 if self._check(device) == "half" else torch.float32  # before gigabytes are read
        self.use(load_model(model_dir, dtype, "sdpa"), generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Pack a model that is already in memory, on any device; it may be freed afterwards."""
        chosen = self.settings["precision"] = self._check(device)
        self.device, self.half = device, chosen == "half"
        dtype = torch.float16 if self.half else torch.float32
        self.dtype = str(dtype).removeprefix("torch.")
        model.eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.frames = model.config.max_source_positions * 2
        self.slots: Any = None
        if device.type == "cuda":
            check_memory(self.name, needed_bytes(model, settings, dtype), device)
        if self.half:
            self._use_kernels(model, settings, dtype)
        else:
            count = PLAIN_SLOTS if self.params.slots == "auto" else self.params.slots
            self.slots = PlainSlots(FusedWhisper(model, settings, device, dtype), count)
            self.settings["path"] = "plain torch"
        self.settings["slots"] = self.slots.count

    def _check(self, device: torch.device) -> str:
        chosen = precision.resolve(self.name, self.params.precision, device, on_gpu="half")
        if chosen == "half":
            check_device(device, self.setting)
        return chosen

    def _use_kernels(
        self, model: WhisperForConditionalGeneration, settings: DecodingSettings, dtype: torch.dtype
    ) -> None:
        # Triton is needed from here on, and only on a GPU.
        from whisper_speedup.fused.batch_decoder import BatchLaunch, slot_bytes
        from whisper_speedup.fused.batch_device import DeviceSlots, slots_that_fit
        from whisper_speedup.fused.device_model import DeviceWhisper, unserved

        reason = unserved(settings)
        if reason is not None:
            raise UserError(
                f"engine {self.name} does not serve these settings in half precision ({reason}): say"
                f" {self.setting}: float32 for the plain path, or take {self.name} out of params.yaml."
            )
        launch = load_launch_config(torch.cuda.get_device_name(self.device), model.config.d_model)
        whisper = DeviceWhisper(model, settings, self.device, dtype, launch, graphs=False)
        if self.params.slots == "auto":
            count = slots_that_fit(whisper, settings)
        else:
            count = self.params.slots
            needed = count * slot_bytes(whisper.weights, settings, whisper.source_positions)
            check_memory(f"{self.name} with {count} slots", needed, self.device)
        self.slots = DeviceSlots(whisper, settings, count, BatchLaunch())
        self.settings |= {"path": "kernels", "launch": vars(self.slots.decoder.launch)}

    def warm_up(self, features: torch.Tensor) -> None:
        """Compile and capture on a GPU, and decode: alone, and in as many slots as there are."""
        slots: Slots = self.slots
        with triton_errors(self.setting):
            if self.settings["path"] == "kernels" and not self.slots.graphs:
                self.slots.capture()
            self.generate(features)
            jobs = [Job(index, features) for index in range(slots.deciding)]
            for _ in self._run(Given(jobs)):
                pass

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        ((_, outcome),) = self._run(Given([Job(0, features)]))
        if isinstance(outcome, UserError):
            raise outcome
        return outcome

    def decode_stream(self, utterances: Iterable[Utterance]) -> Generator[tuple[int, Outcome]]:
        """See BatchEngine. At most as many utterances as there are slots, twice those that are encoded together, and
        HELD that wait, are in memory."""
        begin, count = time.perf_counter(), 0
        workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 1))
        held = max(HELD, self.slots.deciding, self.slots.encode_count)
        with Prefetched(utterances, self._job, lambda one: one.duration_s or 0.0, held, workers) as waiting:
            for result in self._run(waiting):
                count += 1
                yield result
        times = self.slots.times
        self.summary = {
            "seconds": time.perf_counter() - begin, "utterances": count, "encoder_s": times.encoder_s,
            "decoder_s": times.decoder_s, "steps": times.steps, "slots": self.slots.count,
        }  # fmt: skip

    def stream_summary(self) -> dict[str, float]:
        """See BatchEngine; the seconds are the device's where it is a GPU, and what other work leaves idle is in
        neither."""
        return self.summary

    def close(self) -> None:
        """Drop the model."""
        del self.slots
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _job(self, utterance: Utterance) -> Job:
        try:
            features = utterance.features()
        except EngineLost:
            raise
        except UserError as error:
            return Job(utterance.index, error)
        if self.device.type == "cuda" and features.device.type == "cpu":
            features = features.pin_memory()
        return Job(utterance.index, features, utterance.max_length)

    def _run(self, waiting: Waiting[Job]) -> Iterator[tuple[int, Outcome]]:
        for index, outcome, seconds in run_stream(self.slots, waiting, self.frames, self.setting, self.half):
            if isinstance(outcome, Hypothesis):
                yield index, Generation(outcome.tokens, outcome.score, not outcome.ended, seconds)
            else:
                yield index, outcome
