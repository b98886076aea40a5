"""Which device decodes, whether the model fits into it, and its failures in plain words."""

import re

import torch

from whisper_speedup.errors import NoRoomError, UserError

GIB = 2**30
# How the texts of errors begin that come from the device, its driver or its libraries, and not from our code.
DEVICE_ERRORS = (
    "CUDA error", "CUDA driver error", "Triton Error [CUDA]", "cuDNN error",
    # A driver that has gone, or was updated under the running kernel module.
    "CUDA unknown error", "CUDA driver initialization failed", "Found no NVIDIA driver", "No CUDA GPUs are available",
    "Unexpected error from cuda",
)  # fmt: skip
FULL = re.compile(r"out of memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
MAKE_ROOM = "end other programs on the GPU (nvidia-smi lists them), or choose a smaller model or fewer beams"


def resolve(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises UserError when `cuda` is asked for and cannot be used."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        build = "this torch is a CPU build" if torch.version.cuda is None else "torch finds no usable NVIDIA GPU"
        raise UserError(
            f"measure.device is cuda, but {build}: run on a machine with a GPU (make TORCH=cuda installs the CUDA"
            " build), or choose a profile that runs on a CPU, such as bundled."
        )
    return torch.device("cuda")


def check_memory(engine: str, needed_bytes: int, device: torch.device) -> None:
    """Refuse a model that cannot fit before any of it is on the GPU.

    `needed_bytes`: what its weights and buffers take at the very least. Free counts what torch holds and does not use.
    Raises NoRoomError.
    """
    free, total = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if needed_bytes > free:
        raise NoRoomError(
            f"{engine} needs at least {gib(needed_bytes)} of GPU memory for this model, and {gib(free)} of"
            f" {gib(total)} are free: {MAKE_ROOM}."
        )


def failure(error: BaseException) -> str | None:
    """One sentence for an error after which the GPU, or the machine's memory, is of no more use to this run.

    None for any other error.
    """
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return "this machine's memory is full: end other programs, or choose a smaller model or fewer beams."
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if not isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError) and not text.startswith(DEVICE_ERRORS):
        return None
    if isinstance(error, torch.OutOfMemoryError) or FULL.search(text):
        asked = re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]?i?B)", text)
        more = f" ({asked[1]} more were asked for{_free()})" if asked else ""
        return f"the GPU's memory is full{more}: {MAKE_ROOM}."
    first = text.strip().splitlines()[0].rstrip(".")
    return f"the GPU stopped working ({first}): run again, and if that fails too look for its errors with dmesg."


def full(error: BaseException) -> bool:
    """Whether it says that the GPU's memory is full."""
    if isinstance(error, NoRoomError | torch.OutOfMemoryError):
        return True
    return failure(error) is not None and FULL.search(str(error)) is not None


def gib(size_bytes: int) -> str:
    """A size for a sentence: 3.3 GiB, or 12 MiB below a tenth of that unit."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes / 2**20:.0f} MiB"


def _free() -> str:
    try:
        free, total = torch.cuda.mem_get_info()
    except Exception:  # a device in trouble may refuse to say, and the sentence does without
        return ""
    return f", {gib(free)} of {gib(total)} were free"
