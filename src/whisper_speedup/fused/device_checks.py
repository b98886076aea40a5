"""What the kernels need of a machine, asked before anything is loaded, and their failures in plain words.

Nothing here imports Triton at the top: whether it is there is one of the questions.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.errors import EngineLost, UserError, detail
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.measure.floor import layer_matrices

OLDEST_TRITON = (3, 6)
OLDEST_FP8 = (8, 9)  # compute capability
SETTING = "measure.fused.precision"
PLAIN = f"say {SETTING}: float32 for the plain path"


def check_device(device: torch.device, setting: str = SETTING) -> None:
    """Raises UserError for a GPU that the kernels do not run on, and where Triton is missing or cannot work.

    `setting`, here and below: the profile's key for the engine's precision.
    """
    plain = PLAIN.replace(SETTING, setting)
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise UserError(
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, and the fused kernels need"
            f" 8.0 (Ampere) or newer: {plain}."
        )
    try:
        import triton
    except ImportError as error:
        raise UserError(
            f"the fused kernels need Triton, which cannot be imported ({error}): run pip install triton, or {plain}."
        ) from None
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        raise UserError(f"Triton {triton.__version__} is installed, and the fused kernels need {oldest}: update it.")
    with triton_errors(setting):
        # Builds Triton's own helper, so that a missing compiler is said now and not after the weights are packed.
        triton.runtime.driver.active.get_current_device()


def check_fp8(device: torch.device, setting: str) -> None:
    """Raises UserError for a GPU that does not convert fp8 weights itself. `setting`: as check_device's."""
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_FP8:
        raise UserError(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, and fp8"
            f" weights need {OLDEST_FP8[0]}.{OLDEST_FP8[1]} (Ada, Hopper) or newer: run fused_int8 in its place, or"
            f" {PLAIN.replace(SETTING, setting)}."
        )


@contextmanager
def triton_errors(setting: str = SETTING) -> Iterator[None]:
    """Turn what Triton raises for want of something on this machine into a UserError; other errors pass."""
    try:
        yield
    except Exception as error:
        sentence = triton_failure(error, PLAIN.replace(SETTING, setting))
        if sentence is None:
            raise
        raise UserError(sentence) from None


def triton_failure(error: Exception, plain: str) -> str | None:
    """One sentence for a failure of Triton that the machine's owner can mend, None for any other error."""
    text = detail(error)
    if isinstance(error, RuntimeError) and "C compiler" in text:
        return (
            "Triton finds no C compiler, which it needs to launch kernels: install one (Debian and Ubuntu: gcc"
            f" python3-dev), or {plain}."
        )
    if isinstance(error, subprocess.CalledProcessError):
        return (
            "Triton's C compiler failed to build its launcher: install Python's headers (Debian and Ubuntu:"
            f" python3-dev) and look at the compiler's lines above, or {plain}."
        )
    if isinstance(error, RuntimeError) and "active drivers" in text:
        return f"Triton finds no driver for this GPU ({text.rstrip('.')}): update Triton or the driver, or {plain}."
    if refused(error):
        return (
            f"Triton cannot build the fused kernels for this GPU ({text[:200].rstrip('.')}): update Triton, or {plain}."
        )
    return None


def refused(error: Exception) -> bool:
    """Whether Triton or the driver refuses a launch configuration: too much shared memory, or ptxas says no."""
    return type(error).__name__ in {"OutOfResources", "PTXASError"} and type(error).__module__.startswith("triton")


@contextmanager
def giving_up_told(gave_up: Callable[[], bool], instead: str) -> Iterator[None]:
    """Raises EngineLost for a GPU's error that came from a launch that gave up (one_launch.py).

    `instead`: what to do where the GPU is to stay shared.
    """
    try:
        yield
    except RuntimeError:
        if gave_up():
            raise EngineLost(
                "the decoder's one launch gave up waiting for blocks of its own that did not run: end what shares this"
                f" GPU (MPS, a debugger), or {instead}."
            ) from None
        raise


def needed_bytes(
    model: WhisperForConditionalGeneration, settings: DecodingSettings, dtype: torch.dtype, eight_bits: bool = False
) -> int:
    """The least that the engine's weights, keys and values take; activations and workspaces come on top.

    `eight_bits`: the decoder's matrices take a byte a number; the vocabulary's lies beside an embedding in `dtype`.
    """
    config = model.config
    weights = sum(parameter.numel() for parameter in model.parameters())  # tied ones once
    positions = config.max_source_positions + settings.num_beams * settings.max_total(0)
    states = 2 * config.decoder_layers * positions * config.d_model
    needed = (weights + states) * dtype.itemsize
    if eight_bits:
        layer = layer_matrices(config.d_model, config.decoder_ffn_dim)
        needed += config.vocab_size * config.d_model - config.decoder_layers * layer * (dtype.itemsize - 1)
    return needed
