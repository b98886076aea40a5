"""From an engine's name to an engine."""

from typing import get_args

from whisper_speedup.engines.protocol import Engine
from whisper_speedup.errors import UserError
from whisper_speedup.params.engines import RUNG, EngineName, FusedParams
from whisper_speedup.params.profile import BASELINE, MeasureParams


def create(name: str, measure: MeasureParams) -> Engine:
    """The engine called `name`, not loaded yet. Imports only what that engine needs. Raises UserError."""
    if name == BASELINE:
        from whisper_speedup.engines.huggingface import HuggingFace

        return HuggingFace(measure.baseline)
    if name == "fused":
        from whisper_speedup.engines.fused import Fused

        return Fused(measure.fused)
    if name in ("fused_int8", "fused_fp8"):
        from whisper_speedup.engines.fused import Fused

        section = measure.fused_int8 if name == "fused_int8" else measure.fused_fp8
        # Launch configurations are chosen for fp16, and kept by GPU and width alone.
        params = FusedParams(precision=section.precision, tune="never", layers="auto")
        return Fused(params, name, weight_format="int8" if name == "fused_int8" else "fp8")
    if name == "fused_batch":
        from whisper_speedup.engines.fused_batch import FusedBatch

        return FusedBatch(measure.fused_batch)
    if name.startswith(RUNG):
        from whisper_speedup.engines.fused import Fused

        on = measure.ladder.get(name.removeprefix(RUNG))
        if on is None:
            known = ", ".join(RUNG + rung for rung in measure.ladder) or "none"
            raise UserError(f"the profile's measure.ladder has no rung for {name}: its rungs are {known}.")
        return Fused(FusedParams(precision="auto", tune="auto", layers="auto"), name, on)
    if name == "kernl":
        from whisper_speedup.engines.kernl import Kernl

        return Kernl(measure.kernl)
    if name == "kernl_upstream":
        from whisper_speedup.engines.kernl_upstream import KernlUpstream

        return KernlUpstream(measure.kernl_upstream)
    if name == "kernl_phantom":
        from whisper_speedup.engines.kernl_phantom import KernlPhantom

        return KernlPhantom(measure.kernl_phantom)
    if name == "compiled":
        from whisper_speedup.engines.compiled import Compiled

        return Compiled(measure.compiled)
    if name in ("ctranslate2", "ctranslate2_int8"):
        from whisper_speedup.engines.ctranslate2 import CTranslate2

        return CTranslate2(measure.ctranslate2 if name == "ctranslate2" else measure.ctranslate2_int8, name)
    known = ", ".join(get_args(EngineName))
    raise UserError(f"there is no engine {name!r}: params.yaml takes {known}, and {BASELINE} always runs beside them.")
