"""The stage `report`: reports/PROFILE/*.json(l) in, reports/PROFILE.html out. Needs no model, audio or GPU."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2

from whisper_speedup.compare.differences import Difference
from whisper_speedup.compare.evidence import Evidence
from whisper_speedup.compare.latency import Latency
from whisper_speedup.disk.files import read_json, write_text
from whisper_speedup.disk.records import read_records
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import ReportParams, load_profile
from whisper_speedup.report import numbers
from whisper_speedup.report.view import view

FORMAT = 1  # of context.json
_PAGE = Path(__file__).parent / "page"


def render(profile_name: str, reports: Path = Path("reports"), profiles: Path = Path("profiles")) -> Path:
    """Write reports/PROFILE.html from reports/PROFILE/ and return it. The same files give the same bytes.

    The title and the number of cards come from profiles/PROFILE.yaml where that exists, so that a new title needs no
    new comparison; else from what compare recorded. Raises UserError for files that are missing or damaged.
    """
    folder = reports / profile_name
    if not (folder / "context.json").is_file():
        raise UserError(f"{folder} holds no results to show: run make reproduce PROFILE={profile_name} first.")
    context, metrics = read_json(folder / "context.json"), read_json(folder / "metrics.json")
    differences, latency = (
        read_records(Difference, folder / "differences.jsonl"),
        read_records(Latency, folder / "latency.jsonl"),
    )
    # Results from before recordings were kept have no such file.
    evidence = read_records(Evidence, folder / "evidence.jsonl") if (folder / "evidence.jsonl").is_file() else []
    # Written by benchmarks/scaling.py where somebody measured it.
    curve = read_json(folder / "scaling.json")["rows"] if (folder / "scaling.json").is_file() else []
    if not isinstance(context, dict) or context.get("format") != FORMAT:
        raise UserError(
            f"{folder / 'context.json'} was written by another version of compare: run dvc repro to write it again."
        )
    page = view(context, metrics, differences, evidence, latency, _settings(context, profile_name, profiles), curve)
    path = reports / f"{profile_name}.html"
    write_text(path, _html(page))
    return path


def _settings(context: dict[str, Any], profile_name: str, profiles: Path) -> ReportParams:
    if (profiles / f"{profile_name}.yaml").is_file():
        return load_profile(profile_name, profiles).report
    return ReportParams.model_validate(context["profile"]["content"]["report"])


def _html(page: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        seconds=numbers.seconds, size=numbers.size, times=numbers.times, count=numbers.count, plural=numbers.plural,
    )  # fmt: skip
    css = (_PAGE / "style.css").read_text(encoding="utf-8")
    # The one rule that depends on the run: how many engines the table of utterances has columns for.
    css += f":root {{ --others: {len(page['compared'])}; }}\n"
    script = (_PAGE / "script.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(page, css=css, script=script, policy=_policy(css, script))


def _policy(css: str, script: str) -> str:
    """The content security policy: this stylesheet, this script, pictures and sounds inside the file, nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; img-src data:; media-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
