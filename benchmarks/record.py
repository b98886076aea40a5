"""The JSON file that every script here leaves in results/: what was run, on what, and the numbers."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from whisper_speedup.compare.provenance import git_state
from whisper_speedup.disk.files import write_json
from whisper_speedup.measure.environment import fingerprint

ROOT = Path(__file__).resolve().parents[1]


def device_label(device: torch.device) -> str:
    """How a file's name says where it was measured: the GPU's name, or cpu."""
    return torch.cuda.get_device_name(device).replace(" ", "-") if device.type == "cuda" else "cpu"


def record(kind: str, label: str, folder: Path, **fields: Any) -> Path:
    """Write `folder`/KIND-DATE-LABEL.json with the date, commit, environment and command, and `fields`; its path."""
    now = datetime.now(UTC)
    path = folder / f"{kind}-{now:%Y%m%d-%H%M%S}-{label}.json"
    about = {
        "kind": kind, "date": now.isoformat(timespec="seconds"), "commit": git_state(ROOT)["commit"],
        "environment": fingerprint(), "command": command(),
    }  # fmt: skip
    write_json(path, {**about, **fields})
    return path


def command() -> str:
    """The command line; paths in or beside the repository as seen from it, for another machine has another folder."""
    near = f"{ROOT.parent}{os.sep}"
    return " ".join(["python", *(os.path.relpath(one, ROOT) if one.startswith(near) else one for one in sys.argv)])
