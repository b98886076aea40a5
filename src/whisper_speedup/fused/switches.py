"""The parts of the engine that the ladder switches on one at a time, and which of them a device has."""

from collections.abc import Iterable
from typing import Literal, get_args

import torch

from whisper_speedup.errors import LeftOutError

# The first three need no GPU.
Switch = Literal[
    "shared_cross_attention", "ancestry", "packed_weights", "step_graph", "device_search", "kernels", "encoder_graph",
    "one_launch",
]  # fmt: skip
SWITCHES: tuple[Switch, ...] = get_args(Switch)
PLAIN_SWITCHES = SWITCHES[:3]
Off = frozenset[Switch]


def switched_off(on: Iterable[Switch]) -> Off:
    """The parts that are not on."""
    return frozenset(SWITCHES) - frozenset(on)


def everything(
    device: torch.device, unserved: str | None = None, no_one_launch: str | None = None
) -> tuple[Switch, ...]:
    """What engine `fused` has switched on: all there is, or on a CPU and where the kernels do not serve the settings
    (`unserved` says why, see device_model.py) the parts that need neither kernels nor graphs. `no_one_launch` says why
    this GPU cannot run all layers in one launch, which Triton kernels then do (one_launch.py).
    """
    if device.type != "cuda" or unserved is not None:
        return PLAIN_SWITCHES
    return SWITCHES if no_one_launch is None else tuple(switch for switch in SWITCHES if switch != "one_launch")


def check_rung(
    name: str, on: Iterable[Switch], device: torch.device, unserved: str | None = None, no_one_launch: str | None = None
) -> None:
    """Raises LeftOutError for a rung that this device cannot run, or that is engine `fused` itself here."""
    here = everything(device, unserved, no_one_launch)
    lacking = [in_words(switch) for switch in SWITCHES if switch in on and switch not in here]
    if lacking and device.type != "cuda":
        raise LeftOutError(f"{name} is left out, because it has what needs a GPU ({', '.join(lacking)}).")
    if lacking:
        raise LeftOutError(
            f"{name} is left out, because its {lacking[0]} does not serve these settings ({unserved or no_one_launch})."
        )
    if set(on) == set(here):
        raise LeftOutError(
            f"{name} is left out, because it has on all that fused has on this device, and so is the same engine."
        )


def in_words(switch: str) -> str:
    """How a switch is called in a sentence."""
    return switch.replace("_", " ").replace("cross attention", "cross-attention")
