"""How each kernel is launched: tile sizes, warps and pipeline stages for one GPU and one model width."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from whisper_speedup.fused import launch_cache

FOLDER = Path(__file__).parent / "launch"


@dataclass(frozen=True)
class Tile:
    """Launch configuration of a product kernel."""

    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class LaunchConfig:
    """Configurations of one decode step. A different one rounds differently, so runs record theirs."""

    qkv: Tile = Tile(16, 128, 4, 4)
    out: Tile = Tile(16, 128, 4, 4)
    query: Tile = Tile(16, 128, 4, 4)
    fc1: Tile = Tile(16, 128, 4, 4)
    fc2: Tile = Tile(16, 256, 4, 4)
    vocabulary: Tile = Tile(128, 64, 4, 3)
    cross_shares: int = 6
    cross_warps: int = 8
    self_block: int = 64
    self_warps: int = 4
    update_warps: int = 4
    fc2_splits: int = 1
    out_splits: int = 1
    pdl: bool = False  # programmatic dependent launch, Hopper and newer
    source: str = field(default="default", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)


def load_launch_config(gpu: str, width: int) -> LaunchConfig:
    """The configuration measured for this GPU and model width: the repository's, else the user's, else the default.

    `source` says which: "repository", "user cache" or "default".
    """
    path = FOLDER / launch_cache.file_name(gpu)
    if path.is_file():
        measured = json.loads(path.read_text(encoding="utf-8")).get(str(width))
        if measured is not None:
            return config_from(measured, "repository")
    cached = launch_cache.read(gpu, width)
    if cached is not None:
        try:
            return config_from(cached, "user cache")
        except ValueError as error:
            launch_cache.say_unusable(gpu, str(error))
    return LaunchConfig()


def config_from(values: Any, source: str) -> LaunchConfig:
    """A configuration from what `as_dict` gives; what is left out takes the default. Raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    defaults = {entry.name: entry.default for entry in fields(LaunchConfig) if entry.name != "source"}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            raise ValueError(f"it has {name}, which this version does not know")
        default = defaults[name]
        if isinstance(default, Tile):
            sizes = value if isinstance(value, dict) else {}
            if sizes.keys() != vars(default).keys() or not all(type(size) is int for size in sizes.values()):
                raise ValueError(f"its {name} is no tile")
            chosen[name] = Tile(**sizes)
        elif isinstance(value, type(default)):
            chosen[name] = value
        else:
            raise ValueError(f"its {name} is {value!r}")
    return LaunchConfig(**chosen, source=source)
