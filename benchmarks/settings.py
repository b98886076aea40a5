"""What every script here asks of an engine where its own question does not say otherwise."""

from typing import Any

from whisper_speedup.params.profile import GenerationParams, MeasureParams


def measure_params(
    device: str, tune: str = "never", kernl: str = "auto", ladder: dict[str, Any] | None = None, layers: str = "auto",
    slots: int | str = "auto", **baseline: Any,
) -> MeasureParams:  # fmt: skip
    """The `measure` section of a profile: the notebook's baseline, changed by `baseline`. `tune`: never by default, so
    that a run does not depend on what the user's cache of launch configurations holds. `kernl`: its precision.
    `layers`: of the fused engine. `slots`: fused_batch's."""
    return MeasureParams.model_validate(
        {
            "device": device, "rounds": None, "baseline": baseline, "fused": {"tune": tune, "layers": layers},
            "fused_batch": {"slots": slots}, "kernl": {"precision": kernl}, "ladder": ladder or {},
        }
    )  # fmt: skip


def generation_params(beams: int, max_length: int = 50, min_length: int = 1) -> GenerationParams:
    """The notebook's settings of `generate`, English, for so many beams."""
    return GenerationParams(num_beams=beams, max_length=max_length, min_length=min_length)
