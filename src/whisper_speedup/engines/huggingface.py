"""The baseline: the notebook's own loop on today's transformers.

The notebook: fp32 weights under `torch.autocast(float16, cache_enabled=True)` with TF32 products allowed, one
utterance at a time, `generate(features, min_length=1, max_length=50, num_beams=5, do_sample=False)`. On a CPU, fp32.
Language and task are given, else transformers runs the encoder a second time to detect the language.

Where it departs, and why, is a setting: `grad_mode` (PyTorch PR 165068 stopped autocast from caching its casts inside
inference_mode), `precision`, `attention`, and `reorder_fix` (transformers issue 28357: beam reorder copies the
cross-attention keys and values, which are the same for every beam).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import transformers
from pydantic import BaseModel
from transformers import EncoderDecoderCache, WhisperForConditionalGeneration

from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.engines import precision
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.measure.device import check_memory
from whisper_speedup.measure.parts import Stopwatch
from whisper_speedup.params.engines import section_of
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import Section

DTYPES = {"half": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}  # of the weights; else fp32


class BaselineParams(Section):
    """How the notebook's baseline runs. `auto` is autocast to fp16 on CUDA and fp32 on a CPU.

    The notebook's own `inference_mode` is `grad_mode: inference`; since PyTorch PR 165068 it disables autocast's
    cache of casts, which would slow the baseline and flatter us: hence `no_grad`.
    """

    precision: Literal["auto", "autocast", "half", "float32"] = "auto"
    grad_mode: Literal["no_grad", "inference"] = "no_grad"
    attention: Literal["sdpa", "eager"] = "sdpa"
    reorder_fix: bool = False


class VariantParams(BaselineParams):
    """The baseline with one thing changed, for its text alone (yardstick.py): also in what no profile may time."""

    precision: Literal["auto", "autocast", "half", "bfloat16", "tf32", "float32", "float64"] = "auto"  # type: ignore[assignment]


class HuggingFace:
    """transformers' Whisper and its `generate`, unchanged but for what `settings` says."""

    name = "huggingface"
    on_gpu = "autocast"  # what `precision: auto` is there
    Params: ClassVar[type[BaseModel]] = BaselineParams

    def __init__(self, params: BaselineParams) -> None:
        self.params = params
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load the model in the precision that the profile names. Raises UserError where the device has none such."""
        quiet_transformers()
        chosen = self._precision(device)
        model = load_model(model_dir, DTYPES.get(chosen, torch.float32), self.params.attention)
        self.use(model, generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Run on a model that is already in memory, in the dtype that the precision asks for."""
        self.precision = self.settings["precision"] = self._precision(device)
        self.device = device
        if device.type == "cuda":
            if model.device.type != "cuda":
                size = sum(p.numel() for p in model.parameters()) * model.dtype.itemsize
                check_memory(self.name, size, device)
            # The notebook's setting: TF32 for what autocast leaves in fp32. `float32` means IEEE, for a reference.
            ieee = self.precision == "float32"
            torch.set_float32_matmul_precision("highest" if ieee else "high")
            torch.backends.cudnn.allow_tf32 = not ieee  # the encoder's convolutions; torch allows it by default
        self.model = model.to(device).eval()  # type: ignore[arg-type]
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self.encoder_states: torch.Tensor | None = None
        self.hook = self.model.model.encoder.register_forward_hook(self._keep_states)
        self.watching: list[Any] = []
        if self.params.reorder_fix:
            self.model._reorder_cache = reorder_self_attention_only
        self.arguments = generate_arguments(generation, self.model.generation_config)
        self.prompt = prompt_tokens(self.model, self.arguments)
        self.limit = min(generation.max_length, self.model.config.max_target_positions - len(self.prompt))

    def _precision(self, device: torch.device) -> str:
        # A CPU takes its time over the others, so they are there for a variant's text and for no baseline to be timed.
        text_only = ("float32", "float64", "bfloat16", "half", "autocast")
        on_cpu = text_only if isinstance(self.params, VariantParams) else ("float32",)
        return precision.resolve(section_of(self.name), self.params.precision, device, self.on_gpu, on_cpu)

    def warm_up(self, features: torch.Tensor) -> None:
        """The notebook's warm-up: the longest decode there is."""
        self._generate(features, **{**self.arguments, "min_length": self.arguments["max_length"]})

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device. `score` is None: the notebook asks for none."""
        tokens = self._generate(features, **self.arguments)[0].tolist()
        states, self.encoder_states = self.encoder_states, None
        return Generation(tokens=tokens, score=None, truncated=len(tokens) >= self.limit, encoder_states=states)

    def watch(self, stopwatch: Stopwatch | None) -> None:
        """Hooks around the encoder, the decoder and its projection; the decoder's first call is the prompt's."""
        for hook in self.watching:
            hook.remove()
        self.watching = []
        if stopwatch is None:
            return
        part = "encoder"
        encoder, decoder, projection = self.model.model.encoder, self.model.model.decoder, self.model.proj_out

        def begin(*_: Any) -> None:
            stopwatch.begin()

        def encoded(*_: Any) -> None:
            nonlocal part
            stopwatch.end("encoder")
            part = "prefill"

        def decoded(*_: Any) -> None:
            stopwatch.end(part)

        def projected(*_: Any) -> None:
            nonlocal part
            stopwatch.end(part, entries=0)
            part = "steps"

        for module, end in ((encoder, encoded), (decoder, decoded), (projection, projected)):
            self.watching += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    def close(self) -> None:
        """Drop the model."""
        self.hook.remove()
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _generate(self, features: torch.Tensor, **arguments: Any) -> torch.Tensor:
        with self._modes():
            return self.model.generate(features.to(self.model.dtype), **arguments)

    def _keep_states(self, encoder: torch.nn.Module, arguments: Any, output: Any) -> None:
        """`generate` does not mind NaN and says nothing of it, so keep what the benchmark looks at. Costs no time."""
        self.encoder_states = output.last_hidden_state

    @contextmanager
    def _modes(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode() if self.params.grad_mode == "inference" else torch.no_grad())
            if self.precision == "autocast":
                stack.enter_context(torch.autocast(self.device.type, dtype=torch.float16, cache_enabled=True))
            yield


def quiet_transformers() -> None:
    """No loading bars and no advice meant for programmers: the run's own progress is what a reader wants."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def generate_arguments(generation: GenerationParams, config: Any) -> dict[str, Any]:
    """What `generate` is called with. Language and task are left out for English-only checkpoints, as they must be."""
    arguments: dict[str, Any] = {
        "min_length": generation.min_length,
        "max_length": generation.max_length,
        "num_beams": generation.num_beams,
        "do_sample": False,
        "return_dict_in_generate": False,  # whatever the checkpoint's own generation config asks for
    }
    if generation.num_beams > 1:
        arguments["length_penalty"] = generation.length_penalty
        arguments["early_stopping"] = generation.early_stopping
    if getattr(config, "is_multilingual", True):
        if generation.language is not None:
            arguments["language"] = generation.language
        if generation.task is not None:
            arguments["task"] = generation.task
    return arguments


def reorder_self_attention_only(cache: EncoderDecoderCache, beams: torch.Tensor) -> EncoderDecoderCache:
    """The notebook's reorder fix, for today's caches: cross-attention is the same for each beam, so it stays."""
    cache.self_attention_cache.reorder_cache(beams)
    return cache
