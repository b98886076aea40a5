"""In what precision an engine computes here: the profile's word, checked against the device."""

from typing import Literal

import torch

from whisper_speedup.errors import UserError
from whisper_speedup.params.section import Section


class PrecisionParams(Section):
    """`auto` is fp16 on CUDA and fp32 on a CPU."""

    precision: Literal["auto", "half", "float32"] = "auto"


def resolve(section: str, asked: str, device: torch.device, on_gpu: str, on_cpu: tuple[str, ...] = ("float32",)) -> str:
    """`asked`, or for `auto` what a CPU and a GPU (`on_gpu`) take. `section`: the engine's key under `measure`.

    Raises UserError on a CPU for what is not in `on_cpu`.
    """
    if asked == "auto":
        return on_gpu if device.type == "cuda" else "float32"
    if device.type == "cpu" and asked not in on_cpu:
        raise UserError(f"measure.{section}.precision is {asked}, which needs a GPU: on a CPU say auto or float32.")
    return asked
