"""What `dvc repro` runs again after a change: dvc.yaml itself, with stages that only say that they ran.

The profiles that they read are complete already.

A fake `python` stands in for the stages. It writes each stage's outputs from what the real stage reads, and new
"timings" each time it decodes, so that a run that comes back unchanged can only have come from DVC's cache.
"""

import os
import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, TextIO

import pytest
import yaml
from dvc.exceptions import ReproductionError
from dvc.repo import Repo

from whisper_speedup.params.profile import as_yaml, complete, load_profile

ROOT = Path(__file__).parents[2]
FAKE = """#!{executable}
import hashlib, pathlib, sys, yaml

stage, options = sys.argv[3], dict(zip(sys.argv[4::2], sys.argv[5::2]))
assert sys.argv[1:3] == ["-m", "whisper_speedup"], sys.argv
profile, engine = options.get("--profile") or options["--write"], options.get("--engine")
content = yaml.safe_load(pathlib.Path("profiles", profile + ".yaml").read_text())
engines = ["huggingface", *yaml.safe_load(pathlib.Path("params.yaml").read_text())["engines"]]
build, reports, code = pathlib.Path("build", profile), pathlib.Path("reports"), pathlib.Path("src/whisper_speedup")
broken = pathlib.Path("broken")
if broken.exists() and broken.read_text() == (engine or stage):
    raise SystemExit(2)
with open("log", "a") as log:
    print(engine or stage, file=log)


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            for path in sorted(p for p in [part, *part.rglob("*")] if p.is_file() and "__pycache__" not in p.parts):
                total.update(path.read_bytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if stage == "profile":
    write(build / "profile.yaml", yaml.safe_dump(content))
    sections = ["baseline", *[name.split(".")[0] for name in engines[1:]]]
    write(build / "engines.yaml", yaml.safe_dump({{name: content["measure"][name] for name in sections}}))
elif stage == "environment":
    write(build / "environment.json", pathlib.Path("machine").read_text())
elif stage == "data":
    write(build / "data" / "manifest.jsonl", digest(content["data"], pathlib.Path("samples")))
elif stage == "model":
    write(build / "model.json", digest(content["model"]))
elif stage == "decode":
    timing = len(pathlib.Path("log").read_text())
    for name in ("environment.json", "model.json", "data/manifest.jsonl"):
        assert (build / name).is_file(), name
    write(build / "runs" / engine / "results.jsonl", str(timing))
    write(build / "runs" / engine / "run.json", engine)
elif stage == "yardstick":
    write(build / "yardstick" / "variants.json", repr(content["measure"]["yardstick"]))
elif stage == "rounds":
    for name in ("environment.json", "model.json", "data/manifest.jsonl"):
        assert (build / name).is_file(), name
    for name in ("rounds.json", "rounds.jsonl"):
        write(build / "rounds" / name, str(len(pathlib.Path("log").read_text())))
elif stage == "compare":
    runs = [build / "runs" / name for name in engines]
    made = [build / "yardstick", build / "rounds", build / "data", build / "model.json"]
    found = digest(engines, *runs, *made, code / "compare")
    for name in ("metrics.json", "differences.jsonl", "evidence.jsonl", "latency.jsonl", "utterances.csv",
                 "context.json"):
        write(reports / profile / name, '{{"found": "%s"}}' % found)
elif stage == "report":
    write(reports / (profile + ".html"), digest(content["report"], reports / profile, code / "report"))
else:
    raise SystemExit("unknown stage " + stage)
"""
DECODED = ["environment", "huggingface", "yardstick", "fused", "rounds", "compare", "report"]
TIMED = ["environment", "huggingface", "fused", "compare", "report"]
FUSED = ["environment", "fused", "rounds", "compare", "report"]


class Project:
    """A copy of the pipeline in the working directory."""

    def repro(self, pull: bool = False) -> list[str]:
        """The stages that `dvc repro` ran, in order; `pull`: `dvc repro --pull`."""
        log = Path("log")
        before = len(log.read_text().splitlines()) if log.exists() else 0
        with Repo() as repo:
            repo.reproduce(pull=pull)
        return log.read_text().splitlines()[before:]

    def edit(self, path: str, *keys: str, value: object) -> None:
        """Change one value of a YAML file."""
        content = yaml.safe_load(Path(path).read_text())
        section = content
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = value
        Path(path).write_text(yaml.safe_dump(content, sort_keys=False))

    def timings(self) -> dict[str, str]:
        return {path.parent.name: path.read_text() for path in Path("build").glob("bundled/runs/*/results.jsonl")}


class Dumper(yaml.CSafeDumper):
    """Of DVC's own ordered dicts, too."""


Dumper.add_representer(OrderedDict, lambda dumper, data: dumper.represent_dict(data.items()))


def parse_yaml(text: str, path: str, typ: str = "safe") -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader) or {}


def dump_yaml(data: Any, stream: TextIO) -> None:
    yaml.dump(data, stream, Dumper=Dumper, sort_keys=False)


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make it the working directory, with a DVC that reads and writes YAML in C: else that is most of the time."""
    patch.setattr("dvc.utils.serialize._yaml.parse_yaml", parse_yaml)
    patch.setattr("dvc.utils.serialize._yaml._dump", dump_yaml)
    patch.chdir(folder)
    patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    patch.setenv("DVC_NO_ANALYTICS", "1")


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole pipeline, run once."""
    folder = tmp_path_factory.mktemp("pipeline")
    for name in ("dvc.yaml", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("profiles", "samples", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    content = complete(load_profile("bundled", folder / "profiles")).model_dump(mode="json")
    (folder / "profiles" / "bundled.yaml").write_text(as_yaml(content))
    (folder / "machine").write_text('{"cpu": "this one"}')
    fake = folder / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text(FAKE.format(executable=sys.executable))
    fake.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Repo.init(no_scm=True).close()
        Project().edit("params.yaml", "profile", value="bundled")
        Project().edit("params.yaml", "engines", value=["fused"])
        ran = Project().repro()
    assert sorted(ran) == sorted(["profile", "data", "model", *DECODED])
    return folder


@pytest.fixture
def project(reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the pipeline that has just run."""
    folder = tmp_path / "project"
    shutil.copytree(reproduced, folder, ignore=shutil.ignore_patterns("site"))
    enter(folder, monkeypatch)
    return Project()


def test_nothing_changed_measures_nothing_again(project: Project) -> None:
    assert project.repro() == ["environment"]


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (("generation", "num_beams"), 3, DECODED),
        pytest.param(("generation", "max_length"), 40, DECODED, marks=pytest.mark.slow),
        pytest.param(("measure", "repeats"), 2, TIMED, marks=pytest.mark.slow),
        pytest.param(("measure", "features"), "device", DECODED, marks=pytest.mark.slow),
        (("measure", "rounds", "starts"), 3, ["environment", "rounds", "compare", "report"]),
        pytest.param(
            ("measure", "baseline", "reorder_fix"),
            True,
            ["environment", "huggingface", "yardstick", "rounds", "compare", "report"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("measure", "yardstick"),
            ["again"],
            ["environment", "yardstick", "compare", "report"],
            marks=pytest.mark.slow,
        ),
        (("measure", "fused", "precision"), "float32", FUSED),
        (("measure", "kernl", "precision"), "float32", ["environment"]),  # of an engine that is not asked for
        (("report", "title"), "Another title", ["environment", "report"]),
        pytest.param(("data", "clips"), ["cards-001"], ["data", *DECODED], marks=pytest.mark.slow),
        pytest.param(("model", "name"), "base", ["model", *DECODED], marks=pytest.mark.slow),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_setting_runs_what_reads_it(
    project: Project, keys: tuple[str, ...], value: object, expected: list[str]
) -> None:
    project.edit("profiles/bundled.yaml", *keys, value=value)
    assert sorted(project.repro()) == sorted(["profile", *expected])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("kernels/self_attention.py", FUSED),
        pytest.param("kernels/new_kernel.py", FUSED, marks=pytest.mark.slow),
        pytest.param("fused/beam_search.py", FUSED, marks=pytest.mark.slow),
        pytest.param("optimize/states.py", FUSED, marks=pytest.mark.slow),
        pytest.param("optimize/new_store.py", FUSED, marks=pytest.mark.slow),
        pytest.param("engines/fused.py", ["profile", *FUSED], marks=pytest.mark.slow),
        ("engines/new.py", ["profile", *FUSED]),
        pytest.param("engines/huggingface.py", ["profile", *DECODED], marks=pytest.mark.slow),
        pytest.param("engines/precision.py", ["profile", *DECODED], marks=pytest.mark.slow),
        pytest.param("params/sources.py", ["environment", "profile"], marks=pytest.mark.slow),
        pytest.param("run/benchmark.py", DECODED, marks=pytest.mark.slow),
        pytest.param("run/decoding.py", DECODED, marks=pytest.mark.slow),
        pytest.param("measure/device.py", DECODED, marks=pytest.mark.slow),
        pytest.param("checkpoints/prompt.py", ["model", *DECODED], marks=pytest.mark.slow),
        pytest.param("measure/clock.py", DECODED, marks=pytest.mark.slow),
        pytest.param("run/timed.py", DECODED, marks=pytest.mark.slow),
        pytest.param("run/order.py", DECODED, marks=pytest.mark.slow),
        ("report/template.html", ["environment", "report"]),
        pytest.param("compare/wer.py", ["environment", "compare", "report"], marks=pytest.mark.slow),
        pytest.param("audio/folder.py", ["data", *DECODED], marks=pytest.mark.slow),
        pytest.param("checkpoints/synthetic.py", ["model", *DECODED], marks=pytest.mark.slow),
        # Made again, and found to be the same: nothing is measured again.
        pytest.param("hub/revisions.py", ["environment", "data", "model"], marks=pytest.mark.slow),
        ("hub/downloads.py", ["environment", "data", "model"]),
    ],
)
def test_a_source_file_runs_what_uses_it(project: Project, path: str, expected: list[str]) -> None:
    with Path("src/whisper_speedup", path).open("a") as file:
        file.write("\n")
    assert sorted(project.repro()) == sorted(expected)


def test_an_engine_added_and_taken_away_leaves_the_others_alone(project: Project) -> None:
    before = project.timings()
    project.edit("profiles/bundled.yaml", "measure", "second", value={"precision": "auto"})
    project.edit("params.yaml", "engines", value=["fused", "second"])
    assert project.repro() == ["profile", "environment", "second", "rounds", "compare", "report"]
    assert {**project.timings(), **before} == project.timings()
    project.edit("params.yaml", "engines", value=["fused"])
    assert "second" not in (ran := project.repro())
    assert not {"huggingface", "fused", "data", "model"} & set(ran)


def test_a_rung_runs_again_when_its_own_parts_change(project: Project) -> None:
    project.edit("profiles/bundled.yaml", "measure", "ladder", value={"low": [], "high": ["ancestry"]})
    project.edit("params.yaml", "engines", value=["ladder.low", "ladder.high", "fused"])
    assert sorted(project.repro()) == sorted(
        ["profile", "environment", "ladder.low", "ladder.high", "rounds", "compare", "report"]
    )
    project.edit("profiles/bundled.yaml", "measure", "ladder", value={"low": ["packed_weights"], "high": ["ancestry"]})
    ran = project.repro()
    assert sorted(ran) == sorted(["profile", "environment", "ladder.low", "rounds", "compare", "report"])


def test_another_profile_runs_everything_and_the_first_comes_back(project: Project) -> None:
    before = project.timings()
    shutil.copy("profiles/bundled.yaml", "profiles/other.yaml")
    project.edit("params.yaml", "profile", value="other")
    ran = project.repro()
    assert {"environment", "huggingface", "fused", "compare", "report"} <= set(ran)
    assert Path("reports/other.html").is_file()
    project.edit("params.yaml", "profile", value="bundled")
    assert not {"huggingface", "fused"} & set(project.repro())
    assert project.timings() == before


def test_another_machine_measures_again_and_the_first_ones_timings_come_back(project: Project) -> None:
    before, page = project.timings(), Path("reports/bundled.html").read_text()
    Path("machine").write_text('{"cpu": "another one"}')
    assert sorted(project.repro()) == sorted(DECODED)
    assert all(project.timings()[engine] != timing for engine, timing in before.items())
    Path("machine").write_text('{"cpu": "this one"}')
    assert not {"huggingface", "fused"} & set(project.repro())
    assert project.timings() == before
    assert Path("reports/bundled.html").read_text() == page


@pytest.mark.parametrize(
    "stage",
    ["data", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("huggingface", "fused", "compare", "report"))],
)
def test_a_stage_that_failed_goes_on_once_its_input_is_mended(project: Project, stage: str) -> None:
    """Every stage is asked to run again, one of them fails, and after that none runs twice."""
    project.edit("profiles/bundled.yaml", "data", "clips", value=["cards-001"])
    project.edit("profiles/bundled.yaml", "report", "title", value="Another title")
    Path("broken").write_text(stage)
    before = len(Path("log").read_text().splitlines())
    with pytest.raises(ReproductionError):
        project.repro()
    first = Path("log").read_text().splitlines()[before:]
    assert stage not in first
    Path("broken").unlink()
    second = project.repro()
    assert sorted([*first, *second]) == sorted(["profile", "environment", "data", *DECODED])


def test_runs_come_back_from_a_remote(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh clone pulls the runs of two machines, and measures neither again (docs/dvc.md)."""
    first = project.timings()
    with Repo() as repo, repo.config.edit() as config:
        config["remote"]["store"] = {"url": str(tmp_path / "remote")}
        config["core"]["remote"] = "store"
    push()
    Path("machine").write_text('{"cpu": "another one"}')
    project.repro()
    second = project.timings()
    push()
    clone = cloned(tmp_path, monkeypatch)
    assert project.timings() == {}
    with Repo() as repo:
        repo.pull(run_cache=True, force=True)
    assert project.timings() == second
    assert project.repro() == ["environment"]
    # The run cache knows the other machine's runs; their files come when they are asked for.
    (clone / "machine").write_text('{"cpu": "this one"}')
    assert not {"huggingface", "fused", "rounds"} & set(project.repro(pull=True))
    assert project.timings() == first


def push() -> None:
    with Repo() as repo:
        assert repo.push(run_cache=True) > 0
        assert repo.push() == 0


def cloned(tmp_path: Path, patch: pytest.MonkeyPatch) -> Path:
    """What Git would bring of the working directory: neither build/ nor the cache. It becomes the working directory."""
    clone = tmp_path / "clone"
    shutil.copytree(Path(), clone, ignore=shutil.ignore_patterns("build", "cache", "tmp", "site", "log"))
    enter(clone, patch)
    return clone
