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
            "device": device, "threads": None, "warmup": 1, "repeats": 1, "workers": 1, "features": "cpu",
            "rounds": None,
            "baseline": {
                "precision": "auto", "grad_mode": "no_grad", "attention": "sdpa", "reorder_fix": False, **baseline,
            },
            "fused": {"precision": "auto", "tune": tune, "layers": layers},
            "fused_int8": {"precision": "auto"}, "fused_fp8": {"precision": "auto"},
            "fused_batch": {"precision": "auto", "slots": slots}, "kernl": {"precision": kernl},
            "kernl_upstream": {"python": None}, "kernl_phantom": {"precision": "auto"},
            "compiled": {"precision": "auto"}, "ctranslate2": {"patience": 1}, "ctranslate2_int8": {"patience": 1},
            "ladder": ladder or {}, "yardstick": None,
        }
    )  # fmt: skip


def generation_params(beams: int, max_length: int = 50, min_length: int = 1) -> GenerationParams:
    """The notebook's settings of `generate`, English, for so many beams."""
    return GenerationParams(
        num_beams=beams, max_length=max_length, min_length=min_length, length_penalty=1.0, early_stopping=False,
        language="en", task="transcribe",
    )  # fmt: skip
