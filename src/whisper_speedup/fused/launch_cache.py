"""The user's own launch configurations: tuned once on their GPU, then pinned, for another one rounds differently.

One file a GPU, $XDG_CACHE_HOME/whisper-speedup/launch/GPU.json (~/.cache where that is not set), by Triton's version
and the model's width: another Triton may refuse a tile or be faster with another, so it tunes for itself.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from whisper_speedup.disk.files import write_json
from whisper_speedup.errors import say


def file_name(gpu: str) -> str:
    """A GPU's name as a file's, here and in the repository."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", gpu) + ".json"


def path_of(gpu: str) -> Path:
    """Where the configurations of this GPU are."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "whisper-speedup" / "launch" / file_name(gpu)


def read(gpu: str, width: int) -> Any:
    """What was kept for this GPU, model width and Triton, None where nothing was.

    A damaged file counts as nothing: it holds only what can be measured again. One line says so.
    """
    try:
        return _content(path_of(gpu)).get(triton_version(), {}).get(str(width))
    except (ValueError, AttributeError):
        say_unusable(gpu, "it is damaged")
        return None


def write(gpu: str, width: int, config: dict[str, Any]) -> bool:
    """Keep a configuration, beside those of other widths and Tritons. False where the folder cannot be written."""
    path, version = path_of(gpu), triton_version()
    try:
        known = _content(path)
        entries = dict(known.get(version, {}))
    except (ValueError, AttributeError, TypeError):
        known, entries = {}, {}
    entries[str(width)] = config
    try:
        write_json(path, {**known, version: entries})
    except OSError as error:
        say(f"{path} cannot be written ({error.strerror}): this GPU is tuned again next time")
        return False
    return True


def say_unusable(gpu: str, why: str) -> None:
    """The line for a file, or an entry of it, that cannot be used."""
    say(f"{path_of(gpu)} is left aside: {why}")


def triton_version() -> str:
    """Triton's version, the first key of a file."""
    import triton

    return triton.__version__


def _content(path: Path) -> Any:
    """The file's object; an empty one where there is no file that can be read. Raises ValueError for other text."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
