"""Which device decodes: the profile's word, checked against what is here."""

import torch

from whisper_speedup.errors import UserError


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
