"""From an engine's name to an engine."""

from whisper_speedup.engines.protocol import Engine
from whisper_speedup.errors import UserError
from whisper_speedup.params import BASELINE, MeasureParams


def create(name: str, measure: MeasureParams) -> Engine:
    """The engine called `name`, not loaded yet. Imports only what that engine needs. Raises UserError."""
    if name == BASELINE:
        from whisper_speedup.engines.huggingface import HuggingFace

        return HuggingFace(measure.baseline)
    if name == "fused":
        from whisper_speedup.engines.fused import Fused

        return Fused(measure.fused)
    raise UserError(f"there is no engine {name!r}: params.yaml takes fused, and {BASELINE} always runs beside it.")
