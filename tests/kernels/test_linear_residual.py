"""The product that ends a block, added to the residual stream; with K split, through an arrival counter."""

from typing import Any

import pytest
import torch

from tests.kernels.support import (
    ACCUMULATED,
    ROW_COUNTS,
    SMALL,
    TOLERANCE,
    check_left_for_norm,
    close,
    filled,
    launch_again,
    random,
)
from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.kernels.linear_residual import linear_residual, linear_residual_reference


def check(
    device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, splits: int, block: int, **tile: Any
) -> None:
    gamma = random(device, dtype, n)
    stream = filled(random(device, dtype, rows, n), gamma, block)
    for _ in range(2):  # the second launch finds the arrival counts as the first left them
        x, weight, bias = random(device, dtype, rows, k), random(device, dtype, n, k), random(device, dtype, n)
        expected = linear_residual_reference(x, weight, bias, stream.residual[:rows])
        linear_residual(x, weight, bias, stream, gamma, splits=splits, **tile)
        close(stream.residual[:rows], expected, min(ACCUMULATED, TOLERANCE[dtype]))
        check_left_for_norm(stream, expected, gamma)
        assert not bool(stream.arrived.any())


@pytest.mark.parametrize(
    ("rows", "n", "k", "splits"),
    [
        (5, 40, 72, 1), (3, 40, 200, 3), (8, 24, 96, 2), (1, 17, 33, 1), (7, 33, 129, 4),
        (2, 17, 33, 4),  # more splits than K has tiles: two of them add nothing
    ],
)  # fmt: skip
def test_small_shapes(device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, splits: int) -> None:
    check(device, dtype, rows, n, k, splits, 16, **SMALL)


@pytest.mark.gpu
def test_full_shapes(device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig) -> None:
    for k, tile, splits in ((width, launch.out, launch.out_splits), (4 * width, launch.fc2, launch.fc2_splits)):
        for rows in ROW_COUNTS:
            check(device, half, rows, width, k, splits, 64, **vars(tile))


def check_same_bytes(
    device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, splits: int, tile: dict[str, int],
    launches: int,
) -> None:  # fmt: skip
    gamma = random(device, dtype, n)
    stream = filled(random(device, dtype, rows, n), gamma)
    start = stream.residual.clone()
    x, weight, bias = random(device, dtype, rows, k), random(device, dtype, n, k), random(device, dtype, n)

    def run() -> tuple[torch.Tensor, ...]:
        stream.residual.copy_(start)
        linear_residual(x, weight, bias, stream, gamma, splits=splits, **tile)
        return stream.residual, stream.scaled, stream.sums[:, : stream.parts]

    launch_again(launches, run)


def test_small_shapes_again(device: torch.device, dtype: torch.dtype) -> None:
    check_same_bytes(device, dtype, 5, 40, 200, 3, SMALL, launches=3)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [384, 1280], indirect=True)
@pytest.mark.parametrize("splits", [2, 4, 8, None])
def test_full_shapes_again(
    device: torch.device, half: torch.dtype, width: int, launch: LaunchConfig, splits: int | None
) -> None:
    tile: Tile = launch.fc2
    check_same_bytes(device, half, 5, width, 4 * width, splits or launch.fc2_splits, vars(tile), launches=50)
