"""The engines by name, and what a profile says of each."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from whisper_speedup.params.section import Section

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


def _known_engine(name: str) -> str:
    known = get_args(EngineName)
    if name not in known and not re.fullmatch(re.escape(RUNG) + "[a-z0-9_]+", name):
        raise ValueError(f"engines are {', '.join(known)} and {RUNG}NAME for a rung of the profile's measure.ladder")
    return name


Engines = Annotated[list[Annotated[str, AfterValidator(_known_engine)]], Field(min_length=1)]


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
