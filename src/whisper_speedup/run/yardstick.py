"""The yardstick for differences: how often the baseline's texts differ from its own when one thing about it changes.

Every variant has the same weights and the same search, and another order of additions or another rounding. An engine
whose texts differ from the baseline's no more often than the baseline's own variants do is no further from it than it
is from itself. Each variant is decoded as the baseline is, in a process of its own, for its texts alone.
"""

import subprocess
import sys
from pathlib import Path

import torch

from whisper_speedup.checkpoints.identity import read_checkpoint
from whisper_speedup.disk.files import read_json, sha256, write_json
from whisper_speedup.disk.records import Facts
from whisper_speedup.engines import precision
from whisper_speedup.engines.huggingface import BaselineParams, VariantParams
from whisper_speedup.errors import UserError, say
from whisper_speedup.measure import device as devices
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params.profile import BASELINE, MeasureParams, Profile
from whisper_speedup.run.benchmark import decode
from whisper_speedup.run.rows import Variants
from whisper_speedup.run.source import Stage, source_sha256

ATTENTION = ("eager", "sdpa")
THREADS = "threads_"
AMPERE = (8, 0)  # the first compute capability with TF32 and bf16 products


def run(profile: Profile, profile_name: str, build: Path = Path("build")) -> Path:
    """Decode each variant that the profile names; writes build/PROFILE/yardstick/ and returns it.

    A variant that is there already and was made with the same settings, machine, data, weights and sources is kept. One
    that means nothing here is left out; variants.json says why (`left_out`), and which there are (`decoded`). Raises
    UserError for a variant that does not come to its end.
    """
    folder = build / profile_name / Stage.YARDSTICK
    device = devices.resolve(profile.measure.device)
    asked = profile.measure.yardstick or []
    reasons = {variant: why_not(variant, profile.measure, device) for variant in asked}
    decoded = [variant for variant in asked if reasons[variant] is None]
    for variant in asked:
        if variant not in decoded:
            say(f"yardstick: {variant} is left out, for {reasons[variant]}")
        elif _kept(folder / variant, made_for(profile, profile_name, variant, build)):
            say(f"yardstick: {variant} is still valid")
        else:
            _in_a_process(profile_name, variant)
    left_out = {variant: reason for variant, reason in reasons.items() if reason is not None}
    write_json(folder / "variants.json", Variants(decoded=decoded, left_out=left_out).content())
    return folder


def run_one(profile: Profile, profile_name: str, variant: str, build: Path = Path("build")) -> Path:
    """Decode one variant in this process; writes build/PROFILE/yardstick/VARIANT/ and returns it."""
    folder = build / profile_name / Stage.YARDSTICK / variant
    (folder / "made_for.json").unlink(missing_ok=True)
    decode(changed(profile, variant), profile_name, BASELINE, build, variant)
    # Written last: a folder without it is not complete.
    made = made_for(profile, profile_name, variant, build)
    write_json(folder / "made_for.json", made)
    return folder


def changed(profile: Profile, variant: str) -> Profile:
    """The profile with the baseline as `variant` has it, each utterance decoded once."""
    baseline = profile.measure.of(BASELINE).model_dump()
    changes: dict[str, object] = {"warmup": 1, "repeats": 1}
    if variant.startswith(THREADS):
        changes["threads"] = int(variant.removeprefix(THREADS))
    elif variant in ATTENTION:
        baseline["attention"] = variant
    elif variant != "again":
        baseline["precision"] = variant
    changes["baseline"] = VariantParams.model_validate(baseline)
    return profile.model_copy(update={"measure": profile.measure.model_copy(update=changes)})


def why_not(variant: str, measure: MeasureParams, device: torch.device) -> str | None:
    """Why `variant` would say nothing on this device beside `again`, or could not run; None where it says something."""
    on_gpu, baseline = device.type == "cuda", BaselineParams.model_validate(measure.of(BASELINE))
    if variant == "again":
        return None
    if variant.startswith(THREADS):
        own = measure.threads if measure.threads is not None else torch.get_num_threads()
        if on_gpu:
            return "a GPU's text does not depend on the number of threads."
        return (
            f"the baseline itself has {variant.removeprefix(THREADS)} here." if variant == THREADS + str(own) else None
        )
    if variant in ATTENTION:
        return "that is the baseline's own attention." if variant == baseline.attention else None
    if variant == precision.resolve("baseline", baseline.precision, device, on_gpu="autocast"):
        return "that is the baseline's own precision here."
    if variant == "tf32" and not on_gpu:
        return "TF32 is a GPU's."
    if variant in ("tf32", "bfloat16") and on_gpu and torch.cuda.get_device_capability(device) < AMPERE:
        return f"this GPU has no {variant} products."
    return None


def made_for(profile: Profile, profile_name: str, variant: str, build: Path) -> Facts:
    """All that a variant's texts depend on."""
    folder, measure = build / profile_name, changed(profile, variant).measure
    return {
        "variant": variant,
        "generation": profile.generation.model_dump(),
        "baseline": measure.of(BASELINE).model_dump(),
        "device": measure.device,
        "threads": measure.threads,
        "features": measure.features,
        "environment": fingerprint(),
        "data_sha256": sha256(folder / "data" / "manifest.jsonl"),
        "weights_sha256": read_checkpoint(folder / "model.json").weights_sha256,
        "source_sha256": source_sha256(Stage.YARDSTICK),
    }


def _kept(folder: Path, made: Facts) -> bool:
    path = folder / "made_for.json"
    return path.is_file() and read_json(path) == made


def _in_a_process(profile_name: str, variant: str) -> None:
    command = [
        sys.executable,
        "-m",
        "whisper_speedup",
        Stage.YARDSTICK,
        "--profile",
        profile_name,
        "--variant",
        variant,
    ]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise UserError(
            f"the yardstick's variant {variant} did not come to its end (exit code {code}, the reason is above): mend"
            f" it, or take {variant} out of measure.yardstick, and run dvc repro."
        )
