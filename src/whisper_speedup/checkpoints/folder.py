"""A Whisper as a Hugging Face folder on disk: which of its files count, their hashes, and whether they fit together."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from whisper_speedup.checkpoints.identity import FileRecord
from whisper_speedup.disk.files import sha256, write_json
from whisper_speedup.disk.lock import only_one
from whisper_speedup.disk.storage import reason
from whisper_speedup.errors import UserError, detail

REQUIRED = ("config.json", "generation_config.json", "normalizer.json")
# Each of these groups is needed in one of its forms.
ONE_OF = (
    (("tokenizer.json",), ("vocab.json", "merges.txt")),
    (("preprocessor_config.json",), ("processor_config.json",)),
    (("model.safetensors",), ("model.safetensors.index.json",), ("pytorch_model.bin",),
     ("pytorch_model.bin.index.json",)),
)  # fmt: skip
# What a config.json may say about attention. Anything else could name code: transformers fetches kernels from the hub.
ATTENTIONS = {"eager", "sdpa", "flash_attention_2"}
MAX_LAYERS = 256  # eight times the largest published Whisper; building a model of 10,000 takes minutes
OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
RECIPE = "recipe.json"


def used_files(folder: Path) -> list[str]:
    """The names of the files in `folder` that transformers reads, sorted. Raises UserError naming what is missing."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: correct the path of the model.")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    names = {name for name in (*REQUIRED, *OPTIONAL) if (folder / name).is_file()}
    for group in ONE_OF:
        present = [form for form in group if all((folder / name).is_file() for name in form)]
        if present:
            # Of the weights, the first form is the one that transformers loads. Of the others, it may read all.
            names.update(*(present[:1] if group is ONE_OF[-1] else present))
        else:
            missing.append(" or ".join(" with ".join(form) for form in group))
    for index in [name for name in names if name.endswith(".index.json")]:
        for shard in _shards(folder / index):
            if (folder / shard).is_file():
                names.add(shard)
            else:
                missing.append(shard)
    if missing:
        raise UserError(
            f"{folder} is not a complete Whisper: {', '.join(missing)} missing; copy "
            f"{'it' if len(missing) == 1 else 'them'} from the checkpoint it was made from."
        )
    return sorted(names)


def records(folder: Path) -> list[FileRecord]:
    """Name, size and SHA-256 of each file that counts, sorted by name. Raises UserError."""
    return [
        FileRecord(name=name, bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
        for name in used_files(folder)
    ]


def check(folder: Path) -> int:
    """Whether the folder holds a whole Whisper; returns how many parameters it has, tied ones once.

    Reads the names and shapes of the weights, not the weights. Raises UserError when config.json is not a Whisper's, a
    weight is missing or has another shape than it says, or transformers cannot read the other files.
    """
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    used_files(folder)
    config = _json(folder / "config.json")
    if config.get("model_type") != "whisper":
        raise UserError(
            f"{folder} is not a Whisper: its config.json says model_type {config.get('model_type')!r}; "
            "give the folder of a Whisper checkpoint."
        )
    _check_config(config, folder / "config.json")
    try:
        with torch.device("meta"):
            model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config))
    except Exception as error:  # whatever a wrong value in a user's file makes transformers raise
        raise UserError(f"{folder / 'config.json'} describes no Whisper ({detail(error)[:200]}): restore it.") from None
    found = _shapes(folder)
    for name, expected in model.state_dict().items():
        if name == "proj_out.weight":  # the token embedding, which most checkpoints store once
            continue
        if name not in found:
            raise UserError(f"the weights in {folder} lack {name}: restore the checkpoint.")
        if found[name] != list(expected.shape):
            raise UserError(
                f"{name} in {folder} has shape {found[name]}, but config.json asks for {list(expected.shape)}: "
                "restore the checkpoint."
            )
    mels = _read_the_rest(folder)
    if mels != model.config.num_mel_bins:
        raise UserError(
            f"{folder} computes {mels} mel bands, but its model takes {model.config.num_mel_bins}: restore "
            "preprocessor_config.json."
        )
    return sum(parameter.numel() for parameter in model.parameters())


def _content(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {"recipe": recipe, "files": [file.content() for file in records(folder)]}


def make_once(target: Path, recipe: dict[str, Any], make: Callable[[Path], None]) -> None:
    """Have `make` fill `target`, unless it is there already, made by the same recipe and unchanged since.

    `make` fills a temporary folder beside the target, which is then renamed: nobody sees half a model, and an error
    leaves nothing behind. `recipe` is what the content depends on. Raises UserError when another process is at it.
    """
    with only_one(target.with_name(f".{target.name}.lock"), f"making {target}"):
        if not _made(target, recipe):
            _make(target, recipe, make)


def _make(target: Path, recipe: dict[str, Any], make: Callable[[Path], None]) -> None:
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        make(temporary)
        write_json(temporary / RECIPE, _content(recipe, temporary))
        for path in (temporary, *temporary.iterdir()):  # mkdtemp and safetensors make them private
            path.chmod(0o755 if path.is_dir() else 0o644)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # rename replaces a file, and a folder only when it is empty
        else:
            target.unlink(missing_ok=True)
        os.replace(temporary, target)
    except SafetensorError as error:
        raise (reason(error) or error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_config(config: dict[str, Any], path: Path) -> None:
    """Refuse what could load code, or keep this machine busy for hours."""
    for key, value in config.items():
        if "attn_implementation" in key and not isinstance(value, bool | None) and value not in ATTENTIONS:
            raise UserError(
                f"{path} asks for the attention {value!r}, which is none of transformers' own: remove {key}."
            )
    if config.get("quantization_config") is not None:
        raise UserError(
            f"{path} describes quantised weights, which no engine here reads: give the original checkpoint."
        )
    for key in ("encoder_layers", "decoder_layers"):
        value = config.get(key)
        if not isinstance(value, int) or not 1 <= value <= MAX_LAYERS:
            raise UserError(f"{path} says {key} {value!r}, and a Whisper has 1 to {MAX_LAYERS}: restore it.")


def _made(target: Path, recipe: dict[str, Any]) -> bool:
    try:
        record = json.loads((target / RECIPE).read_text(encoding="utf-8"))
        return bool(record == _content(recipe, target))
    except (OSError, ValueError, UserError):
        return False


def _read_the_rest(folder: Path) -> int:
    """Load what is not weights, as the engines will; returns the number of mel bands."""
    from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperTokenizer

    try:
        GenerationConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer.normalize(tokenizer.decode([0]) + " word")
        return int(WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True).feature_size)
    except Exception as error:  # whatever a broken file makes transformers raise
        why = f"{type(error).__name__}: {detail(error)[:200]}".rstrip(".")
        raise UserError(f"transformers cannot read the configuration in {folder} ({why}): restore it.") from None


def _shards(index: Path) -> list[str]:
    weights = _json(index).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(shard, str) for shard in weights.values()):
        raise UserError(f"{index} must say in weight_map which file holds each weight: restore it.")
    for shard in weights.values():
        if shard != Path(shard).name or shard in {"", ".", ".."}:
            raise UserError(f"{index} names the file {shard!r}, which is not in its own folder: restore it.")
    return sorted(set(weights.values()))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({detail(error)}): restore it.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object: restore it.")
    return content


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Weight name to shape, for every weight file of the folder. Torch files are read with weights_only."""
    shapes: dict[str, list[int]] = {}
    for name in used_files(folder):
        path = folder / name
        try:
            if name.endswith(".safetensors"):
                with safe_open(path, framework="pt") as file:
                    shapes.update({key: list(file.get_slice(key).get_shape()) for key in file.keys()})  # noqa: SIM118
            elif name.endswith(".bin"):
                state = torch.load(path, map_location="meta", weights_only=True)
                shapes.update({key: list(value.shape) for key, value in state.items()})
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({detail(error)}): restore it.") from None
        except Exception as error:  # torch.load on a foreign or truncated file raises many kinds
            kind = type(error).__name__
            raise UserError(f"{path} is not a torch file of plain weights ({kind}): restore it.") from None
    return shapes
