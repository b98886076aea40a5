"""What a profile needs before it starts: bytes to fetch, disk, memory, time. And a refusal where the disk is too small.

Downloads come from the hub's own listing; where the hub cannot be asked, a published Whisper's size from its shape.
Memory is what the weights alone take. Time is what the same profile took on the same kind of machine, from reports/.
What none of these can tell is called unknown.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from whisper_speedup.audio import librispeech
from whisper_speedup.audio.folder import open_folder
from whisper_speedup.audio.row import SAMPLING_RATE, WINDOW_S
from whisper_speedup.audio.samples import open_samples
from whisper_speedup.checkpoints import hub, sizes
from whisper_speedup.disk.files import read_json
from whisper_speedup.disk.progress import duration, size
from whisper_speedup.errors import UserError
from whisper_speedup.hub import downloads, revisions
from whisper_speedup.measure import device as devices
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params.profile import BASELINE, Profile
from whisper_speedup.params.sources import Bundled, Hub, LibriSpeech, Local, Samples, Synthetic

CLIP_BYTES = 2 * SAMPLING_RATE * WINDOW_S  # 16-bit samples; FLAC takes less
# Bytes that an engine's weights take for each parameter. Autocast keeps fp32 weights and a copy in fp16 beside them.
# Our formats round the decoder's matrices, which are half of a large model and less of others.
WIDTHS = {
    "float64": 8, "float32": 4, "tf32": 4, "half": 2, "bfloat16": 2, "autocast": 6, "int8": 1, "decoder in 8 bits": 1.5,
}  # fmt: skip


class Need(NamedTuple):
    """Bytes that go to `folder`, None where nobody knows; `fetched` when they come over the network."""

    what: str
    size: int | None
    folder: Path
    fetched: bool
    note: str = ""


class Estimate(NamedTuple):
    """What is not there yet, and what the weights take (None: unknown), in words for memory and time."""

    name: str
    needs: list[Need]
    memory: str
    time: str

    def __str__(self) -> str:
        fetched = [need for need in self.needs if need.fetched]
        disk = "; ".join(
            f"{_about([need.size for need in needs])} in {_home(folder)}, {size(_free(folder))} free"
            for folder, needs in _by_disk(self.needs).items()
        )
        parts = ", ".join(f"{need.what} {_about([need.size])}{need.note}" for need in fetched)
        download = f"{_about([need.size for need in fetched])} ({parts})" if fetched else "nothing"
        return (
            f"{self.name} needs, beyond what is here:\n  download  {download}\n"
            f"  disk      {disk or 'next to nothing'}\n  memory    {self.memory}\n  time      {self.time}"
        )


def estimate(
    profile: Profile, name: str, engines: list[str], build: Path = Path("build"), reports: Path = Path("reports")
) -> Estimate:
    """What `profile` needs with these engines. The hub is asked where the cache does not know; it may refuse."""
    weights, parameters = _weights(profile.model, build / "models")
    needs = [need for need in (*weights, *_speech(profile, build / name)) if need.size != 0]
    return Estimate(name, needs, _memory(profile, engines, parameters), _time(reports / name, name))


def check_disk(estimate: Estimate) -> None:
    """Raises UserError when a disk has less room than what is known to go there."""
    for folder, needs in _by_disk(estimate.needs).items():
        needed, free = sum(need.size or 0 for need in needs), _free(folder)
        if needed > free:
            parts = ", ".join(f"{need.what} {size(need.size)}" for need in needs if need.size)
            move = ", or put the caches elsewhere with HF_HOME" if any(need.fetched for need in needs) else ""
            raise UserError(
                f"{estimate.name} needs about {size(needed)} of disk at {_home(folder)} ({parts}), and {size(free)} are"
                f" free: free some space{move}."
            )


def _weights(model: Bundled | Hub | Local | Synthetic, folder: Path) -> tuple[list[Need], int | None]:
    """What the model stage will write, where it makes the weights itself to `folder`; and the number of parameters."""
    if isinstance(model, Hub):
        return _hub_weights(model)
    if isinstance(model, Local):
        return [], _parameters(Path(model.path).expanduser() / "config.json")
    if isinstance(model, Bundled):
        count, made = sizes.SIZES[model.name].parameters, folder / f"bundled-{model.name}"
    else:
        count, made = sizes.SIZES[model.size].parameters, folder / f"synthetic-{model.size}-seed{model.seed}"
    return [Need("weights", 0 if made.is_dir() else 2 * count, folder, fetched=False)], count


def _hub_weights(model: Hub) -> tuple[list[Need], int | None]:
    published = next((one for name, one in sizes.SIZES.items() if model.id == f"openai/whisper-{name}"), None)
    cache = downloads.cache()
    commit = None
    try:
        commit = revisions.resolve(model.id, "model", model.revision)
        files = hub.wanted(model.id, commit)
    except UserError as reason:
        if commit and (folder := hub.left_by_others(model.id, commit)):
            return [], _parameters(folder / "config.json")
        count = published.parameters if published else None
        width = 2 if model.id.removeprefix("openai/whisper-") in sizes.HALF_ON_THE_HUB else 4
        note = f"{' by the published shape' if count else ''}, for {_why(reason)}"
        return [Need(model.id, count and width * count, cache, fetched=True, note=note)], count
    left = sum(file.size for file in files if not file.cached) - downloads.begun(model.id, "model")
    return [Need(model.id, max(left, 0), cache, fetched=True)], _parameters(
        downloads.small(model.id, "model", commit, "config.json")
    )


def _parameters(config: Path | None) -> int | None:
    try:
        return sizes.parameters(read_json(config)) if config else None
    except (UserError, KeyError, TypeError, AttributeError):
        return None  # the model stage says what is wrong with it


def _speech(profile: Profile, folder: Path) -> list[Need]:
    """What the data stage will write: nothing where it has run. DVC keeps a second copy in its own cache."""
    data = profile.data
    if (folder / "data" / "manifest.jsonl").is_file():
        return []
    vary = data.variations
    versions = 1 + (len(vary.noise_snr_db) + len(vary.speeds) if vary else 0)
    if not isinstance(data, LibriSpeech):
        clips = len(open_samples(data) if isinstance(data, Samples) else open_folder(data))
        return [Need("speech twice, at most", 2 * versions * clips * CLIP_BYTES, folder, fetched=False)]
    try:
        commit = revisions.resolve(data.dataset, "dataset", data.revision)
        files = librispeech.wanted(data, commit)
    except UserError as reason:
        note = f", for {_why(reason)}"
        return [Need(data.dataset, None, downloads.cache(), fetched=True, note=note),
                Need("speech", None, folder, fetched=False)]  # fmt: skip
    whole = sum(file.size for file in files)
    left = sum(file.size for file in files if not file.cached) - downloads.begun(data.dataset, "dataset")
    return [
        Need(data.dataset, max(left, 0), downloads.cache(), fetched=True),
        Need("its rows as datasets keeps them", whole, librispeech.rows_cache(), fetched=False),
        Need("speech twice", 2 * versions * whole, folder, fetched=False),
    ]


def _memory(profile: Profile, engines: list[str], parameters: int | None) -> str:
    """The least that the weights take, and what this machine has."""
    if parameters is None:
        return "unknown, for the model's shape is"
    try:
        on_gpu, missing = devices.resolve(profile.measure.device).type == "cuda", ""
    except UserError as reason:
        on_gpu, missing = True, f"; this machine cannot run it, for {_why(reason)}"
    each = {name: int(_width(profile, name, on_gpu) * parameters) for name in (BASELINE, *engines)}
    most = max(each.values()) if profile.measure.rounds is None else sum(each.values())
    how = "" if profile.measure.rounds is None else " while the rounds hold all engines"
    gpus = fingerprint()["gpus"]
    have = gpus[0]["memory_bytes"] if on_gpu and gpus else psutil.virtual_memory().total
    kind = "GPU memory" if on_gpu else "memory"
    said = (
        f"at least {size(most)} of {kind} for the weights{how} ({', '.join(f'{n} {size(b)}' for n, b in each.items())})"
    )
    if missing:
        return said + missing
    return f"{said}; this machine has {size(have)}{', which is too little' if most > have else ''}"


def _width(profile: Profile, engine: str, on_gpu: bool) -> float:
    """Bytes a parameter takes in `engine`."""
    if engine == "kernl_upstream":
        return WIDTHS["autocast"]
    if engine.startswith("ctranslate2"):
        return WIDTHS["int8" if engine.endswith("int8") else "half" if on_gpu else "float32"]
    precision = getattr(profile.measure.of(engine), "precision", "auto")
    if precision == "auto":
        precision = ("autocast" if engine == BASELINE else "half") if on_gpu else "float32"
    if engine in ("fused_int8", "fused_fp8") and precision == "half":
        precision = "decoder in 8 bits"
    return WIDTHS.get(precision, WIDTHS["float32"])


def _time(folder: Path, name: str) -> str:
    """What the last run of this profile took from loading to the last utterance, where it is in reports/."""
    try:
        context = read_json(folder / "context.json")
        runs = [run for run in context["runs"].values() if "decode_s" in run]
        seconds = sum(run["load_s"] + run["warmup_s"] + run["decode_s"] for run in runs)
        seconds += (context.get("rounds") or {}).get("seconds", 0.0)
        there, here = context["environment"], fingerprint()
        taken = duration(seconds) if runs else ""
        machine = ", ".join(gpu["name"] for gpu in there["gpus"]) or there["cpu"]
    except (UserError, KeyError, TypeError, AttributeError):
        taken = ""
    if not taken:
        return f"unknown: {folder}/ holds no run of {name}"
    if all(there.get(key) == here[key] for key in ("cpu", "cpu_cores", "gpus")):
        return f"about {taken} of decoding, as the run in {folder}/ took on this kind of machine"
    return f"unknown on this machine; the run in {folder}/ took {taken} of decoding on {machine}"


def _why(reason: UserError) -> str:
    """What is wrong, without what to do."""
    return str(reason).split(": ", 1)[0]


def _about(counts: Sequence[int | None]) -> str:
    """The sum in words; a part that nobody knows shows."""
    known = [one for one in counts if one is not None]
    unknown = len(counts) > len(known)
    if not known:
        return "unknown"
    return f"{'more than ' if unknown else 'about '}{size(sum(known))}"


def _by_disk(needs: list[Need]) -> dict[Path, list[Need]]:
    """The needs of each disk, under the first of its folders."""
    disks: dict[int, tuple[Path, list[Need]]] = {}
    for need in needs:
        disks.setdefault(_existing(need.folder).stat().st_dev, (need.folder, []))[1].append(need)
    return dict(disks.values())


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    whole = Path(os.path.abspath(folder))
    return next(place for place in (whole, *whole.parents) if place.is_dir())


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _home(folder: Path) -> str:
    """The path as a person writes it."""
    whole, here, home = Path(os.path.abspath(folder)), Path.cwd(), Path.home()
    if whole.is_relative_to(here):
        return str(whole.relative_to(here))
    return f"~/{whole.relative_to(home)}" if whole.is_relative_to(home) else str(whole)
