"""The command line: one thin command a stage, and one sentence for a user's mistake (exit code 2)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from whisper_speedup.errors import UserError
from whisper_speedup.params import Profile, load_params, load_profile, use_profile

BUILD = Path("build")
REPORTS = Path("reports")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage. Exits with 2 and one sentence for what the user can mend, with 130 on Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


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
