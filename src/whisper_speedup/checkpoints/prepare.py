"""The model stage: from a profile's model to a checked Hugging Face folder and the content of model.json."""

import os
from pathlib import Path

from whisper_speedup.checkpoints import bundled, hub, synthetic
from whisper_speedup.checkpoints.folder import check, make_once, records, used_files
from whisper_speedup.checkpoints.identity import Checkpoint, read_checkpoint
from whisper_speedup.disk.files import sha256
from whisper_speedup.errors import UserError, plain
from whisper_speedup.hub import revisions
from whisper_speedup.params.sources import Bundled, Hub, Local, Synthetic

MODELS = Path("build/models")
AGAIN = "run the model stage again (dvc repro --force model)"


def prepare(model: Bundled | Hub | Local | Synthetic, folder: Path = MODELS) -> Checkpoint:
    """Bring the weights to this machine and return what model.json holds.

    Bundled and synthetic weights are written under `folder`, once; hub weights stay in the Hugging Face cache and
    local ones where they are. Raises UserError.
    """
    revision = None
    if isinstance(model, Bundled):
        name, path = f"whisper-{model.name}", folder / f"bundled-{model.name}"
        make_once(path, bundled.recipe(model.name), lambda target: bundled.write(model.name, target))
    elif isinstance(model, Synthetic):
        name, path = f"synthetic-whisper-{model.size}", folder / f"synthetic-{model.size}-seed{model.seed}"
        size, seed = model.size, model.seed
        make_once(path, synthetic.recipe(size, seed), lambda target: synthetic.write(size, seed, target))
    elif isinstance(model, Hub):
        name = model.id
        path, revision = hub.fetch(model.id, model.revision)
    else:
        path = Path(model.path).expanduser()
        name = Path(os.path.abspath(path)).name
    parameters, files = check(path), records(path)
    if revision is not None:
        revisions.confirm(name, "model", revision, {file.name: file.sha256 for file in files})
    return Checkpoint(
        source=model.source, name=name, revision=revision, path=str(_relative(path)),
        trained=not isinstance(model, Synthetic), parameters=parameters, files=files,
    )  # fmt: skip


def checked_folder(model_json: Path) -> Path:
    """The Hugging Face folder that model.json names, once each of its files has the size and SHA-256 recorded there.

    Every reader of weights calls this first, from the repository's root. Raises UserError naming the file, what was
    expected and what was found.
    """
    model = read_checkpoint(model_json)
    return check_files(model, Path(model.path), str(model_json))


def check_files(model: Checkpoint, folder: Path, model_json: str) -> Path:
    """`folder`, once it holds the files that `model`, the content of `model_json`, records. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{plain(str(folder))}, the weights that {model_json} names, is gone: {AGAIN}.")
    expected = {file.name for file in model.files}
    if expected != set(used_files(folder)):
        differing = ", ".join(plain(name) for name in sorted(expected ^ set(used_files(folder))))
        raise UserError(f"{folder} does not hold the files that {model_json} lists ({differing}): {AGAIN}.")
    for file in model.files:
        path = folder / file.name
        if path.stat().st_size != file.bytes:
            raise UserError(f"{path} has {path.stat().st_size} bytes and {model_json} expects {file.bytes}: {AGAIN}.")
        found = sha256(path)
        if found != file.sha256:
            raise UserError(f"{path} has the SHA-256 {found} and {model_json} expects {file.sha256}: {AGAIN}.")
    return folder


def _relative(path: Path) -> Path:
    """The path relative to the working directory, which is the repository's root, when it lies inside."""
    absolute = Path(
        os.path.abspath(path)
    )  # without `..`, and without following links, which the hub's cache is made of
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
