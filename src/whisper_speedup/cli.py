"""The command line: one thin command a stage, and one sentence for a user's mistake (exit code 2)."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from whisper_speedup.disk import storage
from whisper_speedup.disk.lock import only_one
from whisper_speedup.errors import UserError, readable, say
from whisper_speedup.params.profile import Profile, check_name, load_params, load_profile, use_profile
from whisper_speedup.run.source import Stage

BUILD = Path("build")
REPORTS = Path("reports")


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Treated as Ctrl-C is, so that what a stage says and tidies then it does here too."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage. Exits with 2 and one sentence for what the user can mend, with 130 on Ctrl-C, 143 on SIGTERM.

    A second Ctrl-C or SIGTERM, while the first is being tidied up after, ends the process at once.
    """
    parsed = _parser().parse_args(arguments)
    try:
        with _terminable():
            parsed.run(parsed)
    except UserError as error:
        _end(f"error: {error}", 2)
    except KeyboardInterrupt as stop:
        _end(f"stopped: {stop}" if str(stop) else "stopped", 143 if isinstance(stop, Terminated) else 130)
    except (OSError, RuntimeError, MemoryError) as error:
        sentence = _failure(error)
        if sentence is None:
            raise
        _end(f"error: {sentence}", 2)


def _failure(error: Exception) -> str | None:
    """What failed of the machine, in one sentence; None for a bug."""
    if isinstance(error, OSError):
        return storage.failure(error)
    from whisper_speedup.measure import device  # late, for it brings torch, which is slow to load

    return device.failure(error)


def _end(sentence: str, code: int) -> NoReturn:
    say(sentence)
    sys.exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, the first SIGTERM raises Terminated and the first SIGINT KeyboardInterrupt; the second of them ends the
    process at once (where signals may be handled, which is the main thread)."""
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            os.write(2, b"ended at once\n")
            os._exit(128 + number)
        stopping = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as with `command &`
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: a handler that is not Python's, which cannot be put back
                signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """Refusals quote what was typed: on one line."""

    def error(self, message: str) -> NoReturn:
        super().error(readable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m whisper_speedup", description=__doc__)
    stages = parser.add_subparsers(title="stages", required=True, metavar="STAGE")

    def stage(name: str, run: object, what: str) -> argparse.ArgumentParser:
        command = stages.add_parser(name, help=what, description=what)
        command.set_defaults(run=run)
        return command

    for name, run, what in (
        ("estimate", _estimate, "print the disk, memory and time that a profile needs, and refuse a disk too small"),
        (Stage.ENVIRONMENT, _environment, "write the fingerprint of this machine and its software"),
        (Stage.DATA, _data, "prepare the speech and its manifest"),
        (Stage.MODEL, _model, "bring the weights to this machine and record their hashes"),
        ("decode", _decode, "decode the manifest with one engine and time it"),
        (Stage.YARDSTICK, _yardstick, "decode with variants of the baseline, to see how often it differs from itself"),
        (Stage.ROUNDS, _rounds, "let the engines take turns over a few clips, for the interval over rounds"),
        (Stage.COMPARE, _compare, "compare the engines' runs"),
        (Stage.REPORT, _report, "render reports/PROFILE.html from the small files in reports/PROFILE"),
    ):
        command = stage(name, run, what)
        command.add_argument("--profile", help="a name in profiles/ (default: the one that params.yaml names)")
        if name == "decode":
            command.add_argument("--engine", required=True, help="huggingface, or an engine that params.yaml names")
            command.add_argument(
                "--ray-address", help="decode on this Ray cluster: auto, host:port, or local for one on this machine"
            )
        if name == Stage.YARDSTICK:
            command.add_argument("--variant", help="this one alone (default: all of measure.yardstick, if need be)")
    chosen = stage("profile", _profile, "put a profile in force: write its name into params.yaml")
    chosen.add_argument("name", nargs="?", help="without it, check params.yaml and the profile that it names")
    chosen.add_argument("--show", action="store_true", help="print the complete profile instead, defaults included")
    chosen.add_argument("--write", action="store_true", help="write that to build/NAME/ instead, for dvc.yaml's stages")
    return parser


def _load(parsed: argparse.Namespace) -> tuple[str, Profile]:
    name = parsed.profile or load_params().profile
    return name, load_profile(name)


def _estimate(parsed: argparse.Namespace) -> None:
    from whisper_speedup.run.estimate import check_disk, estimate

    name, profile = _load(parsed)
    params = load_params()
    needed = estimate(profile, name, params.engines if params.profile == name else profile.engines, BUILD, REPORTS)
    print(*map(readable, str(needed).split("\n")), sep="\n")
    check_disk(needed)


def _environment(parsed: argparse.Namespace) -> None:
    from whisper_speedup.disk.files import write_json
    from whisper_speedup.measure import device
    from whisper_speedup.measure.environment import fingerprint

    name, profile = _load(parsed)
    # The first stage that runs, so that a missing GPU is said before gigabytes are fetched.
    device.resolve(profile.measure.device)
    with _alone(name, Stage.ENVIRONMENT):
        write_json(BUILD / name / "environment.json", fingerprint())


def _data(parsed: argparse.Namespace) -> None:
    from whisper_speedup.audio.manifest import prepare

    name, profile = _load(parsed)
    with _alone(name, Stage.DATA):
        prepare(profile.data, BUILD / name / "data")


def _model(parsed: argparse.Namespace) -> None:
    from whisper_speedup.checkpoints.prepare import prepare
    from whisper_speedup.disk.files import write_json

    name, profile = _load(parsed)
    with _alone(name, Stage.MODEL):
        write_json(BUILD / name / "model.json", prepare(profile.model).content())


def _decode(parsed: argparse.Namespace) -> None:
    from whisper_speedup.run.benchmark import decode

    name, profile = _load(parsed)
    decode(profile, name, parsed.engine, BUILD, ray_address=parsed.ray_address)


def _yardstick(parsed: argparse.Namespace) -> None:
    from whisper_speedup.run import yardstick

    name, profile = _load(parsed)
    if parsed.variant is None:
        yardstick.run(profile, name, BUILD)
    elif parsed.variant in (profile.measure.yardstick or []):
        yardstick.run_one(profile, name, parsed.variant, BUILD)
    else:
        raise UserError(f"profiles/{name}.yaml has no variant {parsed.variant!r} in measure.yardstick: add it there.")


def _rounds(parsed: argparse.Namespace) -> None:
    from whisper_speedup.run.rounds import run

    name, profile = _load(parsed)
    with _alone(name, Stage.ROUNDS):
        run(profile, name, load_params(), BUILD)


def _compare(parsed: argparse.Namespace) -> None:
    from whisper_speedup.compare.stage import compare

    name, profile = _load(parsed)
    params = load_params()
    with _alone(name, Stage.COMPARE):
        compare(profile, name, params, BUILD, REPORTS)


def _report(parsed: argparse.Namespace) -> None:
    from whisper_speedup.report.render import render

    name = check_name(parsed.profile or load_params().profile)
    with _alone(name, Stage.REPORT):
        path = render(name, REPORTS)
    print(f"report: {path}")


def _profile(parsed: argparse.Namespace) -> None:
    from whisper_speedup.params.profile import as_yaml, complete, write_complete

    name = parsed.name or load_params().profile
    profile = load_profile(name)
    if parsed.show:
        print(as_yaml(complete(profile).model_dump(mode="json")), end="")
    elif parsed.write:
        write_complete(profile, load_params().engines, BUILD / name)
    elif parsed.name is not None:
        use_profile(name)
        params = load_params()
        print(f"params.yaml: profile {params.profile}, engines {', '.join(params.engines)}")


def _alone(profile_name: str, stage: Stage) -> AbstractContextManager[None]:
    """Within, no other process runs this stage of this profile. Raises UserError when one does."""
    return only_one(BUILD / profile_name / f".{stage}.lock", f"running the stage {stage} of profile {profile_name}")
