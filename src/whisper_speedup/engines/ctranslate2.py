"""CTranslate2's Whisper, a peer to compare with: `ctranslate2` in fp32 or fp16, `ctranslate2_int8` with int8 weights.

The same log-mel features, prompt, beams, suppression lists and length limit as the baseline; docs/peers.md says what
its interface leaves open. The weights are converted once from the same Hugging Face folder, by CTranslate2's own
converter, into build/models/.
"""

import ctypes
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from whisper_speedup.checkpoints.folder import records
from whisper_speedup.checkpoints.identity import files_sha256
from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.checkpoints.prepare import MODELS
from whisper_speedup.disk.lock import only_one
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.params.profile import GenerationParams
from whisper_speedup.params.section import Section

# Name to CTranslate2's compute types on a CPU and on a GPU, and the dtype of what is not int8 there.
COMPUTE = {
    "ctranslate2": {"cpu": ("float32", "float32"), "cuda": ("float16", "float16")},
    "ctranslate2_int8": {"cpu": ("int8", "float32"), "cuda": ("int8_float16", "float16")},
}
CUBLAS = "libcublas.so.12"  # what the wheels on PyPI load at run time


class CTranslate2Params(Section):
    """The search ends once `num_beams` x `patience` hypotheses have."""

    patience: Annotated[float, Field(ge=1, le=16)] = 1.0


class CTranslate2:
    """Decodes with `ctranslate2.models.Whisper`."""

    name = "ctranslate2"
    Params = CTranslate2Params

    def __init__(self, params: CTranslate2Params) -> None:
        self.settings: dict[str, Any] = params.model_dump()
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Convert the weights unless that is done, and load them. Raises UserError for what is missing or not served.

        The whole folder is hashed to find its conversion, which takes a second for each GB.
        """
        library = _library(self.name)
        if device.type == "cuda":
            _check_cublas(self.name)
        quiet_transformers()
        model = load_model(model_dir, torch.float32, "sdpa")
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        # Refuses what a checkpoint's generation_config.json asks for beyond what is passed on below.
        settings = decoding_settings(model, arguments, self.prompt)
        del model
        self.limit = min(settings.max_new_tokens, settings.max_total(0) - len(self.prompt))
        self._check(generation, settings.max_positions)
        compute_type, self.dtype = COMPUTE[self.name][device.type]
        self.settings |= {"library": f"ctranslate2 {library.__version__}", "compute_type": compute_type}
        self.eos = settings.eos
        self.arguments: dict[str, Any] = {
            "beam_size": settings.num_beams,
            "patience": self.settings["patience"],
            "length_penalty": settings.length_penalty,
            # CTranslate2 takes the smaller of half of this and of what the prompt but for its last token leaves of it.
            "max_length": max(2 * self.limit, self.limit + len(self.prompt) - 1),
            "suppress_tokens": list(settings.suppress),
            "suppress_blank": True,  # the converted folder's list of what may not come first
            "return_scores": True,
        }
        converted = converted_folder(model_dir)
        self.device = device
        self.model = library.models.Whisper(
            str(converted), device=device.type, device_index=device.index or 0, compute_type=compute_type,
            inter_threads=1, intra_threads=torch.get_num_threads(),
        )  # fmt: skip

    def _check(self, generation: GenerationParams, positions: int) -> None:
        problem = None
        if None in self.prompt:
            problem = "is not asked to detect the language: set generation.language"
        elif generation.min_length > len(self.prompt) + 1:
            problem = "has no minimum length: set generation.min_length to 1"
        elif self.limit > positions // 2:
            problem = f"decodes at most {positions // 2} tokens: set generation.max_length to that"
        if problem is not None:
            raise UserError(f"engine {self.name} {problem}, or take {self.name} out of params.yaml.")

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is: end-of-text suppressed."""
        self._generate(features, suppress_tokens=[*self.arguments["suppress_tokens"], self.eos])

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device. `score` is CTranslate2's own."""
        result, states = self._generate(features)
        tokens = list(result.sequences_ids[0])
        return Generation(
            tokens=tokens, score=result.scores[0], truncated=len(tokens) >= self.limit, encoder_states=states
        )

    def close(self) -> None:
        """Drop the model."""
        del self.model

    def _generate(self, features: torch.Tensor, **changes: Any) -> tuple[Any, torch.Tensor]:
        """CTranslate2's result, and the encoder's output, for the benchmark to look for NaN once the clock stopped."""
        storage = _library(self.name).StorageView
        # from_array reads a GPU's tensor where it lies; a CPU's goes through numpy, without a copy.
        array = features.contiguous() if features.is_cuda else features.contiguous().numpy()
        encoded = self.model.encode(storage.from_array(array))
        result = self.model.generate(encoded, [self.prompt], **{**self.arguments, **changes})[0]
        states = (
            torch.as_tensor(encoded, device=self.device) if features.is_cuda else torch.from_numpy(np.asarray(encoded))
        )
        return result, states


class CTranslate2Int8(CTranslate2):
    """With int8 weights."""

    name = "ctranslate2_int8"


def converted_folder(model_dir: Path, models: Path | None = None) -> Path:
    """The folder's weights in CTranslate2's format, converted at the first call; `models`: where, build/models.

    Weights keep the dtype that they are stored in. The name tells the version and the folder's content, so that a
    folder of that name is what would be made again.
    """
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        """CTranslate2's, with the weights read where all engines read them."""

        def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
            return load_model(Path(model_name_or_path), kwargs.get("dtype") or torch.float32, "sdpa")

    content = files_sha256(records(model_dir))
    target = (models or MODELS) / f"ctranslate2-{ctranslate2.__version__}-{content}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target.with_name(f".{target.name}.lock"), f"making {target}"):
        if not target.is_dir():
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
            try:
                Converter(str(model_dir)).convert(str(temporary), force=True)
                temporary.chmod(0o755)  # mkdtemp makes it private
                os.replace(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def _library(name: str) -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise UserError(
            f"engine {name} needs CTranslate2, which is not installed: run `pip install .[peers]`, or take {name} out "
            "of params.yaml."
        ) from None
    return ctranslate2


def _check_cublas(name: str) -> None:
    """CTranslate2 finds out at the first product; this is how it looks."""
    try:
        ctypes.CDLL(CUBLAS)
    except OSError:
        raise UserError(
            f"engine {name} needs CUDA 12's {CUBLAS}, which cannot be loaded here: put its folder into LD_LIBRARY_PATH "
            f"(pip's nvidia-cublas-cu12 has it), or take {name} out of params.yaml."
        ) from None
