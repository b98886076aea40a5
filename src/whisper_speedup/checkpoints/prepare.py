"""The model stage: from a profile's model to a checked Hugging Face folder and the content of model.json."""

from pathlib import Path
from typing import Any

from whisper_speedup.checkpoints import bundled
from whisper_speedup.checkpoints.folder import make_once, parameters, records, used_files
from whisper_speedup.errors import UserError
from whisper_speedup.files import read_json, sha256
from whisper_speedup.params import Bundled, Hub, Local, Synthetic

MODELS = Path("build/models")


def prepare(model: Bundled | Hub | Local | Synthetic, folder: Path = MODELS) -> dict[str, Any]:
    """Bring the weights to this machine and return what model.json holds.

    Bundled and synthetic weights are written under `folder`, once; hub weights stay in the Hugging Face cache and
    local ones where they are. Raises UserError.
    """
    if isinstance(model, Bundled):
        name, revision, trained = f"whisper-{model.name}", None, True
        path = folder / f"bundled-{model.name}"
        make_once(path, bundled.recipe(model.name), lambda target: bundled.write(model.name, target))
    else:
        raise NotImplementedError
    files = records(path)
    return {
        "source": model.source,
        "name": name,
        "revision": revision,
        "path": str(_relative(path)),
        "trained": trained,
        "parameters": parameters(path),
        "files": files,
    }


def _relative(path: Path) -> Path:
    """The path relative to the working directory, which is the repository's root, when it lies inside."""
    absolute = path.expanduser().absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
