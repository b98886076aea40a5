"""The typed configuration: params.yaml says what to run, profiles/NAME.yaml says how, nothing else is read.

A profile says what differs from the defaults, which stand here and in each engine's file. `complete` has them all.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from whisper_speedup.disk.files import write_text
from whisper_speedup.errors import UserError
from whisper_speedup.params.engines import BASELINE, Engines, section_of, sections, settings_class
from whisper_speedup.params.languages import language_code
from whisper_speedup.params.section import Section, read_section
from whisper_speedup.params.sources import Bundled, Folder, Hub, LibriSpeech, Local, Samples, Synthetic

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a profile


class Params(Section):
    """params.yaml: which profile is in force, and which optimised engines run beside the baseline."""

    profile: Annotated[str, Field(pattern=f"^{NAME}$")]
    engines: Engines


def _language(value: Any) -> Any:
    if value is False:
        raise ValueError('unquoted no is false in YAML (write norwegian or "no", or null to have it detected)')
    return language_code(value) if isinstance(value, str) else value


class GenerationParams(Section):
    """What `generate` is asked for. `max_length` counts new tokens, as transformers does for Whisper's prompt.

    `language` is Whisper's code, whatever was typed (languages.py); null has it detected for each utterance. `language`
    and `task` are left out for English-only checkpoints, which take neither.
    """

    num_beams: Annotated[int, Field(ge=1, le=16)] = 5
    max_length: Annotated[int, Field(ge=1, le=448)] = 50
    min_length: Annotated[int, Field(ge=0, le=448)] = 1
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    early_stopping: bool | Literal["never"] = False
    language: Annotated[str | None, BeforeValidator(_language)] = "en"
    task: Literal["transcribe", "translate"] | None = "transcribe"


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

    starts: Annotated[int, Field(ge=1, le=100)] = 4
    count: Annotated[int, Field(ge=1, le=1000)] = 2
    clips: Annotated[int, Field(ge=1, le=1000)] = 4
    seed: Annotated[int, Field(ge=0)] = 0


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
    `yardstick`: the variants of the baseline whose texts are compared with its own; null for none.
    Any other key is an engine's, with its settings.
    """

    model_config = ConfigDict(extra="allow")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    warmup: Annotated[int, Field(ge=1, le=100)] = 1
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    workers: Annotated[int | Literal["auto"], BeforeValidator(_number_of_workers)] = 1
    features: FeaturesPlace = "cpu"
    rounds: RoundsParams | None = RoundsParams()
    yardstick: Annotated[list[Variant], Field(min_length=1), AfterValidator(_no_variant_twice)] | None = None

    @model_validator(mode="after")
    def _engines(self) -> Self:
        given = self.__pydantic_extra__ or {}
        known: dict[str, Any] = {key: (settings_class(sections()[key]), ...) for key in given if key in sections()}
        # A model of its own, so that its errors name the key, and a key of no engine is unknown.
        given.update(create_model("Engines", __base__=Section, **known).model_validate(given))
        return self

    def of(self, engine: str) -> BaseModel:
        """The engine's settings in force: the profile's, or its defaults. Raises UserError for an unknown engine."""
        given: dict[str, BaseModel] = self.__pydantic_extra__ or {}
        return given.get(section_of(engine)) or settings_class(engine)()


class ReportParams(Section):
    """What the page says of itself. `max_differences` limits the cards, never the counts."""

    title: Annotated[str, Field(min_length=1, max_length=200)] = "Whisper, its baseline and its engines"
    max_differences: Annotated[int, Field(ge=1, le=10000)] = 200


class Profile(Section):
    """profiles/NAME.yaml. `engines`: what `make reproduce PROFILE=NAME` writes into params.yaml."""

    engines: Engines = Field(["fused"])
    data: Annotated[Samples | LibriSpeech | Folder, Field(discriminator="source")]
    model: Annotated[Bundled | Hub | Local | Synthetic, Field(discriminator="source")]
    generation: GenerationParams = GenerationParams()
    measure: MeasureParams = MeasureParams()
    report: ReportParams = ReportParams()


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml. Raises UserError."""
    return read_section(Params, path)


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
    return read_section(Profile, path)


def complete(profile: Profile) -> Profile:
    """With the settings of every engine that is installed: all that is in force."""
    own = {key: getattr(profile.measure, key) for key in MeasureParams.model_fields}
    engines = {key: profile.measure.of(name) for key, name in sections().items()}
    return profile.model_copy(update={"measure": MeasureParams.model_validate(own | engines)})


def as_yaml(content: object) -> str:
    """As a file of profiles/ writes it, in the order of its keys."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)


def write_complete(profile: Profile, engines: list[str], folder: Path) -> None:
    """For dvc.yaml: `complete` to profile.yaml in `folder`; the settings of those that run to engines.yaml."""
    content = complete(profile).model_dump(mode="json")
    write_text(folder / "profile.yaml", as_yaml(content))
    running = dict.fromkeys(section_of(engine) for engine in (BASELINE, *engines))
    write_text(folder / "engines.yaml", as_yaml({key: content["measure"][key] for key in running}))


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
