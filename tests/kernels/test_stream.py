"""The residual stream's buffers: room for every launch configuration on record, and a refusal where there is none."""

import json

import pytest
import torch
import triton

from tests.kernels.support import WIDTHS
from whisper_speedup.fused.launch import FOLDER, LaunchConfig, load_launch_config
from whisper_speedup.kernels.stream import ROWS, Stream

CPU = torch.device("cpu")


def configurations() -> list[tuple[int, LaunchConfig]]:
    """The default at each published width, and all that were measured."""
    found = [(width, LaunchConfig()) for width in WIDTHS]
    for path in sorted(FOLDER.glob("*.json")):
        widths = json.loads(path.read_text(encoding="utf-8"))
        found += [(int(width), load_launch_config(path.stem, int(width))) for width in widths]
    return found


@pytest.mark.parametrize(("width", "launch"), configurations())
def test_every_configuration_fits(width: int, launch: LaunchConfig) -> None:
    stream = Stream(width, torch.float16, CPU)
    for tile, splits in ((launch.out, launch.out_splits), (launch.fc2, launch.fc2_splits)):
        parts = triton.cdiv(width, tile.block_n)
        partial, arrived = stream.split_scratch(parts * splits * tile.block_n, parts)
        assert partial.numel() >= parts * splits * tile.block_n * ROWS
        assert arrived.numel() >= parts
        stream.wrote(parts)
        assert stream.parts == parts


def test_what_does_not_fit_is_refused() -> None:
    stream = Stream(40, torch.float16, CPU)
    room = stream.partial.numel() // ROWS
    stream.split_scratch(room, 5)
    with pytest.raises(AssertionError):
        stream.split_scratch(room + 1, 5)
    with pytest.raises(AssertionError):
        stream.split_scratch(room, 6)
    stream.wrote(256)
    with pytest.raises(AssertionError):
        stream.wrote(257)
