"""The command line: one thin command a stage, and one sentence for a user's mistake (exit code 2)."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from whisper_speedup.errors import UserError
from whisper_speedup.params import Profile, load_params, load_profile, use_profile

BUILD = Path("build")
REPORTS = Path("reports")


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Treated as Ctrl-C is, so that what a stage says and tidies then it does here too."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage. Exits with 2 and one sentence for what the user can mend, with 130 on Ctrl-C, 143 on SIGTERM."""
    parsed = _parser().parse_args(arguments)
    try:
        with _terminable():
            parsed.run(parsed)
    except UserError as error:
        _end(f"error: {error}", 2)
    except KeyboardInterrupt as stop:
        _end(f"stopped: {stop}" if str(stop) else "stopped", 143 if isinstance(stop, Terminated) else 130)
    except RuntimeError as error:
        from whisper_speedup.device import failure  # late, for it brings torch, which is slow to load

        sentence = failure(error)
        if sentence is None:
            raise
        _end(f"error: {sentence}", 2)


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated (where signals may be handled, which is the main thread)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if before is not None:  # None: a handler that is not Python's, which cannot be put back
            signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m whisper_speedup", description=__doc__)
    stages = parser.add_subparsers(title="stages", required=True, metavar="STAGE")

    def stage(name: str, run: object, what: str) -> argparse.ArgumentParser:
        command = stages.add_parser(name, help=what, description=what)
        command.set_defaults(run=run)
        return command

    for name, run, what in (
        ("environment", _environment, "write the fingerprint of this machine and its software"),
        ("data", _data, "prepare the speech and its manifest"),
        ("model", _model, "bring the weights to this machine and record their hashes"),
        ("decode", _decode, "decode the manifest with one engine and time it"),
        ("rounds", _rounds, "let the engines take turns over a few clips, for the interval over rounds"),
        ("compare", _compare, "compare the engines' runs"),
        ("report", _report, "render reports/PROFILE.html from the small files in reports/PROFILE"),
    ):
        command = stage(name, run, what)
        command.add_argument("--profile", help="a name in profiles/ (default: the one that params.yaml names)")
        if name == "decode":
            command.add_argument("--engine", required=True, help="huggingface, or an engine that params.yaml names")
    chosen = stage("profile", _profile, "put a profile in force: write its name into params.yaml")
    chosen.add_argument("name")
    return parser


def _load(parsed: argparse.Namespace) -> tuple[str, Profile]:
    name = parsed.profile or load_params().profile
    return name, load_profile(name)


def _environment(parsed: argparse.Namespace) -> None:
    from whisper_speedup import device
    from whisper_speedup.files import write_json
    from whisper_speedup.measure.environment import fingerprint

    name, profile = _load(parsed)
    # The first stage that runs, so that a missing GPU is said before gigabytes are fetched.
    device.resolve(profile.measure.device)
    write_json(BUILD / name / "environment.json", fingerprint())


def _data(parsed: argparse.Namespace) -> None:
    from whisper_speedup.audio.manifest import prepare

    name, profile = _load(parsed)
    prepare(profile.data, BUILD / name / "data")


def _model(parsed: argparse.Namespace) -> None:
    from whisper_speedup.checkpoints.prepare import prepare
    from whisper_speedup.files import write_json

    name, profile = _load(parsed)
    write_json(BUILD / name / "model.json", prepare(profile.model))


def _decode(parsed: argparse.Namespace) -> None:
    from whisper_speedup.benchmark import decode

    name, profile = _load(parsed)
    decode(profile, name, parsed.engine, BUILD)


def _rounds(parsed: argparse.Namespace) -> None:
    from whisper_speedup.rounds.stage import run

    name, profile = _load(parsed)
    run(profile, name, load_params(), BUILD)


def _compare(parsed: argparse.Namespace) -> None:
    from whisper_speedup.compare.stage import compare

    name, profile = _load(parsed)
    compare(profile, name, load_params(), BUILD, REPORTS)


def _report(parsed: argparse.Namespace) -> None:
    from whisper_speedup.report.render import render

    path = render(parsed.profile or load_params().profile, REPORTS)
    print(f"report: {path}")


def _profile(parsed: argparse.Namespace) -> None:
    use_profile(parsed.name)
