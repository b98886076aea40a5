"""Whether all decoder layers run in one launch on this GPU (kernels/persistent_layers.py), and that launch.

Where they do not, a chain of Triton kernels does the same work; fused/device_decoder.py runs either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import WhisperConfig

from whisper_speedup.errors import detail
from whisper_speedup.fused.settings import DecodingSettings
from whisper_speedup.kernels.persistent_layers import Launch, compiled, probe
from whisper_speedup.kernels.persistent_plan import HEAD, Plan, make_plan
from whisper_speedup.kernels.stream import ROWS

OLDEST = 9  # compute capability: bulk copies and barriers that count their bytes


@dataclass(frozen=True)
class OneLaunch:
    """A plan for a decoder on a GPU, and the kernel compiled for it. `eps`: the layer norms'."""

    plan: Plan
    launch: Launch
    eps: float


class NoOneLaunch(Exception):
    """Why the layers cannot run in one launch here: the end of a sentence."""


class RefusedLaunch(NoOneLaunch):
    """The same for what this machine should run and does not: its user wants to know."""


def one_launch_or_why(
    config: WhisperConfig, settings: DecodingSettings, device: torch.device, dtype: torch.dtype, eps: float,
    tell: Callable[[str], None],
) -> tuple[OneLaunch | None, str | None]:  # fmt: skip
    """What `layers: auto` means: the launch, or None and why the chain runs in its place.

    `tell` gets a line where this machine should run it and does not, and none where that is no news.
    """
    try:
        return make_one_launch(config, settings, device, dtype, eps), None
    except NoOneLaunch as why:
        if isinstance(why, RefusedLaunch):
            tell(f"the decoder's layers run as Triton kernels and not in one launch: {why}")
        return None, str(why)


def make_one_launch(
    config: WhisperConfig, settings: DecodingSettings, device: torch.device, dtype: torch.dtype, eps: float = 1e-5
) -> OneLaunch:
    """Plan and compile (seconds), before any weight is packed. Raises NoOneLaunch."""
    gpu: Any = torch.cuda.get_device_properties(device)
    if gpu.major < OLDEST:
        raise NoOneLaunch(f"{gpu.name} has compute capability {gpu.major}.{gpu.minor}, and it needs {OLDEST}.0")
    width, heads = config.d_model, config.decoder_attention_heads
    if width != heads * HEAD:
        raise NoOneLaunch(f"its heads are {HEAD} wide, and the model's are {width / heads:g}")
    rows = max(settings.num_beams, len(settings.prompt))
    plan = None
    if rows <= ROWS and dtype in (torch.float16, torch.bfloat16):
        plan = make_plan(
            width, config.decoder_ffn_dim, heads, config.max_source_positions, rows, gpu.multi_processor_count,
            gpu.shared_memory_per_block_optin, dtype,
        )  # fmt: skip
    if plan is None:
        raise NoOneLaunch(
            f"a decoder {width} wide with {rows} rows in {str(dtype).removeprefix('torch.')} does not fit"
            f" {gpu.multi_processor_count} multiprocessors with {gpu.shared_memory_per_block_optin} bytes of shared"
            " memory"
        )
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    launch = _launch(plan, device)
    if isinstance(launch, str):
        raise RefusedLaunch(f"NVRTC or the driver refuses it ({launch})")
    return OneLaunch(plan, launch, eps)


@cache
def _launch(plan: Plan, device: torch.device) -> Launch | str:
    """The launch, or what refuses it: once for a process, so that weights that change are only packed again."""
    try:
        with torch.cuda.device(device):
            launch = compiled(plan)
            probe(launch, device)
    except (RuntimeError, OSError, AttributeError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
            raise
        return detail(error)[:200].rstrip(".")
    return launch
