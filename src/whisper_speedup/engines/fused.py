"""Our engine behind the Protocol: packed weights, shared cross-attention, beam search of our own.

A rung of the ladder is the same engine with some of its parts left out: ladder.py. Engines `fused_int8` and
`fused_fp8` are the same engine with the decoder's weights in 8 bits: kernels/eight_bits.py.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import BaseModel
from transformers import WhisperForConditionalGeneration

from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.checkpoints.prompt import prompt_tokens
from whisper_speedup.engines import precision
from whisper_speedup.engines.huggingface import generate_arguments, quiet_transformers
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import UserError, detail, say
from whisper_speedup.fused.device_checks import (
    check_device,
    check_fp8,
    giving_up_told,
    needed_bytes,
    refused,
    triton_errors,
)
from whisper_speedup.fused.launch import LaunchConfig, load_launch_config
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings
from whisper_speedup.fused.switches import Switch, check_rung, everything, switched_off
from whisper_speedup.kernels.eight_bits import WeightFormat
from whisper_speedup.measure.device import check_memory
from whisper_speedup.measure.parts import Stopwatch, unwatched
from whisper_speedup.params.profile import GenerationParams

if TYPE_CHECKING:
    from whisper_speedup.fused.one_launch import OneLaunch


class FusedParams(PrecisionParams):
    """`tune: auto` chooses launch configurations while loading, once, on a GPU and at a width that neither the
    repository nor the user's cache knows; `never` takes the default there. It means nothing on a CPU.
    `layers`: a decoder's layers in one launch on Hopper and newer, where they fit (`persistent`), or a chain of Triton
    kernels; `auto` takes the first where it can. A CPU has neither.
    """

    tune: Literal["auto", "never"] = "auto"
    layers: Literal["auto", "triton", "persistent"] = "auto"


class Fused:
    """Decodes with FusedWhisper: the same tokens as transformers' `generate` with the same settings.

    `rung`: the parts to switch on, for one of the ladder's; None for all that the device has. `settings["on"]` says
    which they were. `weight_format`: what the decoder's weights are rounded to, in an engine whose output differs for
    it. The chain of Triton kernels reads 8 bits; a CPU and the plain path read the rounded weights in their own type.
    """

    Params: ClassVar[type[BaseModel]] = FusedParams

    def __init__(
        self,
        params: FusedParams,
        name: str = "fused",
        rung: Sequence[Switch] | None = None,
        weight_format: WeightFormat | None = None,
    ) -> None:
        self.name = name
        self.params = params
        self.rung = rung
        self.weight_format = weight_format
        self.section = "fused" if rung is not None else name  # of the profile's `measure`
        self.settings: dict[str, Any] = params.model_dump()
        if weight_format is not None:  # which has no other settings
            self.settings = {"precision": params.precision, "weights": weight_format}
        self.prompt: list[int | None] = []

    def load(self, model_dir: Path, generation: GenerationParams, device: torch.device) -> None:
        """Load and pack the weights. Raises UserError for settings, or a GPU, that the engine does not serve."""
        quiet_transformers()
        chosen = self._check(device)  # before gigabytes are read
        dtype = torch.float16 if chosen == "half" else torch.float32
        self.use(load_model(model_dir, dtype, "sdpa"), generation, device)

    def use(self, model: WhisperForConditionalGeneration, generation: GenerationParams, device: torch.device) -> None:
        """Pack a model that is already in memory, on any device; it may be freed afterwards."""
        chosen = self.settings["precision"] = self._check(device)
        self.device = device
        dtype = torch.float16 if chosen == "half" else torch.float32
        self.dtype = str(dtype).removeprefix("torch.")
        model.eval()
        arguments = generate_arguments(generation, model.generation_config)
        self.prompt = prompt_tokens(model, arguments)
        settings = decoding_settings(model, arguments, self.prompt)
        self.model: Any = None
        unserved = self._unserved(settings, chosen)
        if device.type == "cuda":
            check_memory(self.name, needed_bytes(model, settings, dtype, self.weight_format is not None), device)
        one_launch = no_one_launch = None
        if device.type == "cuda" and unserved is None and (self.rung is None or "encoder_graph" in self.rung):
            one_launch, no_one_launch = self._one_launch(model, settings, dtype)
        if self.rung is not None:
            check_rung(self.name, self.rung, device, unserved, no_one_launch)
        whole = everything(device, unserved, no_one_launch)
        on = self.settings["on"] = list(whole if self.rung is None else self.rung)
        if "kernels" in on:
            one_launch = one_launch if "one_launch" in on else None
            because = f" ({no_one_launch})" if no_one_launch and self.params.layers != "triton" else ""
            self.settings["layers"] = f"triton{because}" if one_launch is None else "persistent"
            self._use_kernels(model, settings, dtype, one_launch, "encoder_graph" in on)
        elif "step_graph" in on:
            from whisper_speedup.fused.graphed import GraphedWhisper

            self.model = GraphedWhisper(model, settings, device, dtype, "device_search" in on)
        else:
            self.model = FusedWhisper(
                model, settings, device, dtype, off=switched_off(on), weight_format=self.weight_format
            )
        self.model.setting = self.setting

    def _check(self, device: torch.device) -> str:
        """The precision. Raises UserError for a device that does not run this engine, or this rung of it."""
        chosen = precision.resolve(self.section, self.params.precision, device, on_gpu="half")
        if self.rung is not None:
            check_rung(self.name, self.rung, device)
            if device.type == "cuda" and "packed_weights" not in self.rung:
                chosen = "autocast"  # fp32 weights, as the baseline
        if chosen in ("half", "autocast"):
            check_device(device, self.setting)
            if self.weight_format == "fp8":
                check_fp8(device, self.setting)
        return chosen

    @property
    def setting(self) -> str:
        """The profile's key for the precision."""
        return f"measure.{self.section}.precision"

    def _unserved(self, settings: DecodingSettings, precision: str) -> str | None:
        """Why graphs and kernels cannot serve this run; None where they can, and on a CPU, which has none."""
        if self.device.type != "cuda":
            return None
        if precision == "float32":
            return "precision float32"
        from whisper_speedup.fused.device_model import unserved

        reason = unserved(settings)
        if self.rung is None:
            self.settings["path"] = "kernels" if reason is None else f"plain torch ({reason})"
        return reason

    def _use_kernels(
        self,
        model: WhisperForConditionalGeneration,
        settings: DecodingSettings,
        dtype: torch.dtype,
        one_launch: "OneLaunch | None",
        encoder_graph: bool,
    ) -> None:
        """Pack for the kernels; tune them first on a GPU that is not known yet."""
        # Triton is needed from here on, and only on a GPU.
        from whisper_speedup.fused.device_model import DeviceWhisper
        from whisper_speedup.fused.device_weights import pack_device_weights
        from whisper_speedup.fused.tuning import tuned_launch_config

        gpu = torch.cuda.get_device_name(self.device)
        launch = load_launch_config(gpu, model.config.d_model)
        weights = pack_device_weights(model, self.device, dtype, one_launch, self.weight_format)
        # What is tuned is the chain of Triton kernels above all, and one launch has nothing to choose.
        if launch.source == "default" and self.params.tune == "auto" and one_launch is None:
            with triton_errors(self.setting):
                launch = tuned_launch_config(gpu, weights, settings, model.config.max_source_positions)
        self.settings["launch"] = launch.as_dict()
        torch.cuda.empty_cache()  # what packing took on the way
        self.model = DeviceWhisper(
            model, settings, self.device, dtype, launch, weights=weights, encoder_graph=encoder_graph
        )

    def _one_launch(
        self, model: WhisperForConditionalGeneration, settings: DecodingSettings, dtype: torch.dtype
    ) -> "tuple[OneLaunch | None, str | None]":
        """All layers in one launch, compiled, or why they are to run or can only run as Triton kernels."""
        from whisper_speedup.fused.one_launch import NoOneLaunch, make_one_launch, one_launch_or_why

        asked, eps = self.params.layers, model.model.decoder.layer_norm.eps
        if self.weight_format is not None:
            return None, "it reads weights in half precision"
        if asked == "triton":
            return None, "measure.fused.layers is triton"
        if asked == "auto":
            return one_launch_or_why(model.config, settings, self.device, dtype, eps, say)
        try:
            return make_one_launch(model.config, settings, self.device, dtype, eps), None
        except NoOneLaunch as why:
            raise UserError(f"measure.fused.layers is persistent, but {why}: say auto or triton.") from None

    def _giving_up_told(self) -> AbstractContextManager[None]:
        """Say so when it was the layers' one launch that ended the GPU's work."""
        return giving_up_told(self.model.gave_up, "say measure.fused.layers: triton")

    def warm_up(self, features: torch.Tensor) -> None:
        """Decode the longest way there is once; on a GPU, compile and capture first."""
        launch = self.settings.get("launch", {}).get("source", "default")
        with triton_errors(self.setting), self._giving_up_told():
            try:
                self.model.warm_up(features)
            except Exception as error:
                if launch == "default" or not refused(error):
                    raise
                why = detail(error)[:200]
                say(f"the launch configuration ({launch}) cannot be built here, so the default is used: {why}")
                self.model.relaunch(LaunchConfig())
                self.settings["launch"] = LaunchConfig().as_dict()
                self.model.warm_up(features)

    def generate(self, features: torch.Tensor) -> Generation:
        """Decode one utterance; features (1, mels, 3000) on the device."""
        with self._giving_up_told():
            best = self.model.generate(features)
        return Generation(tokens=best.tokens, score=best.score, truncated=not best.ended)

    def watch(self, stopwatch: Stopwatch | None) -> None:
        """Time encoder, prompt and steps of what is decoded from now on."""
        self.model.part = unwatched if stopwatch is None else stopwatch.part

    def close(self) -> None:
        """Drop the model."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class FusedInt8(Fused):
    """With the decoder's weights in int8."""

    Params = PrecisionParams
    weights: WeightFormat = "int8"

    def __init__(self, params: PrecisionParams) -> None:
        # Launch configurations are chosen for fp16, and kept by GPU and width alone.
        untuned = FusedParams(precision=params.precision, tune="never")
        super().__init__(untuned, f"fused_{self.weights}", weight_format=self.weights)


class FusedFp8(FusedInt8):
    """With them in fp8."""

    weights = "fp8"
