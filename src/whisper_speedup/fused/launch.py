"""How each kernel is launched: tile sizes, warps and pipeline stages for one GPU and one model width."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
    """The configuration measured for this GPU and model width, or the default where none was."""
    path = FOLDER / f"{gpu.replace(' ', '-')}.json"
    if not path.is_file():
        return LaunchConfig()
    measured = json.loads(path.read_text(encoding="utf-8")).get(str(width))
    if measured is None:
        return LaunchConfig()
    values: dict[str, Any] = {name: Tile(**v) if isinstance(v, dict) else v for name, v in measured.items()}
    return LaunchConfig(**values, source=path.name)
