"""The parts of the engine that the ladder switches on one at a time, and which of them a device has."""

from collections.abc import Iterable

import torch

from whisper_speedup.errors import LeftOutError
from whisper_speedup.params import PLAIN_SWITCHES, SWITCHES, Switch

Off = frozenset[Switch]


def switched_off(on: Iterable[Switch]) -> Off:
    """The parts that are not on."""
    return frozenset(SWITCHES) - frozenset(on)


def everything(device: torch.device, unserved: str | None = None) -> tuple[Switch, ...]:
    """What engine `fused` has switched on: all there is, or on a CPU and where the kernels do not serve the settings
    (`unserved` says why, see device_model.py) the parts that need neither kernels nor graphs.
    """
    return SWITCHES if device.type == "cuda" and unserved is None else PLAIN_SWITCHES


def check_rung(name: str, on: Iterable[Switch], device: torch.device, unserved: str | None = None) -> None:
    """Raises LeftOutError for a rung that this device cannot run, or that is engine `fused` itself here."""
    here = everything(device, unserved)
    lacking = [in_words(switch) for switch in SWITCHES if switch in on and switch not in here]
    if lacking and device.type != "cuda":
        raise LeftOutError(f"{name} is left out, because it has what needs a GPU ({', '.join(lacking)}).")
    if lacking:
        raise LeftOutError(f"{name} is left out, because its {lacking[0]} does not serve these settings ({unserved}).")
    if set(on) == set(here):
        raise LeftOutError(
            f"{name} is left out, because it has on all that fused has on this device, and so is the same engine."
        )


def in_words(switch: str) -> str:
    """How a switch is called in a sentence."""
    return switch.replace("_", " ").replace("cross attention", "cross-attention")
