"""The profiles `paper` and `dummy` from the hub to the page: the real files and the real code, over HTTP.

Each runs in processes of its own, for HF_ENDPOINT is read once. Changed are the device and the number of rounds; the
rest that is small is on the hub: a few clips under LibriSpeech's name, random weights under large-v2's.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hub.client import ROOT, environment
from tests.hub.content import DUMMY, LARGE_V2, LIBRISPEECH, TINY_EN
from tests.hub.server import Repository, TestHub
from whisper_speedup.checkpoints.hub import fetch
from whisper_speedup.disk.files import read_json, read_jsonl
from whisper_speedup.hub import downloads

STAGES = ("estimate", "environment", "data", "model", GOODBYE := "goodbye", "decode --engine huggingface", "yardstick",
          "decode --engine fused", "rounds", "compare", "report")  # fmt: skip
ROUNDS = {"starts": 1, "count": 2, "clips": 2, "seed": 0}
# The stages in one process, which tells the hub when it needs it no longer.
RUN = f"""
import os, sys, urllib.request
from contextlib import suppress
from whisper_speedup.cli import main
for stage in sys.argv[2:]:
    if stage == "{GOODBYE}":
        with suppress(OSError):
            urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/{GOODBYE}")
    else:
        main([*stage.split(), "--profile", sys.argv[1]])
"""


class Workspace:
    """A checkout as far as the pipeline needs it, with its own Hugging Face folder, connected to `hub`."""

    def __init__(self, folder: Path, hub: TestHub) -> None:
        self.folder, self.hub = folder, hub
        shutil.copytree(ROOT / "profiles", folder / "profiles")
        shutil.copy(ROOT / "params.yaml", folder / "params.yaml")

    def use(self, name: str, rounds: dict[str, int] | None) -> None:
        """Put a profile in force, changed to decode on a CPU with these rounds."""
        path = self.folder / "profiles" / f"{name}.yaml"
        content = yaml.safe_load(path.read_text())
        content["measure"] = {"device": "cpu", "threads": 1, "rounds": rounds}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        assert self.process("-m", "whisper_speedup", "profile", name).returncode == 0

    def run(self, name: str, *stages: str) -> subprocess.CompletedProcess[str]:
        """The stages one after the other, in one process."""
        return self.process("-c", RUN, name, *stages)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment(self.hub, self.folder / "cache"),
            text=True, capture_output=True, check=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "model", "data", "rounds"),
    [
        pytest.param("paper", LARGE_V2, LIBRISPEECH, ROUNDS, marks=pytest.mark.slow),
        pytest.param("dummy", TINY_EN, DUMMY, None, marks=pytest.mark.slow),
    ],
)
def test_from_the_hub_to_the_page(
    published: list[Repository], tmp_path: Path, name: str, model: str, data: str, rounds: dict[str, int] | None
) -> None:
    hub = TestHub(*published)
    workspace = Workspace(tmp_path, hub)
    workspace.use(name, rounds)

    def leave(method: str, path: str) -> None:
        if path == f"/{GOODBYE}":
            hub.stop()  # whoever asks it now, fails

    hub.refuse = leave
    run = workspace.run(name, *STAGES)
    assert run.returncode == 0, run.stderr
    assert hub.server is None
    assert hub.endpoint.removeprefix("http://") not in run.stderr  # nobody tried
    assert f"{name} needs, beyond what is here:" in run.stdout
    assert f"fetching {model}: " in run.stderr

    commits = {one.name: one.commit for one in published}
    recorded = read_json(tmp_path / "revisions.json")
    assert recorded[model] == commits[model]
    assert recorded[f"datasets/{data}"] == commits[data]
    made = read_json(tmp_path / "build" / name / "model.json")
    assert (made["source"], made["name"], made["revision"]) == ("hub", model, commits[model])
    assert len(read_jsonl(tmp_path / "build" / name / "data" / "manifest.jsonl")) == 3
    metrics = read_json(tmp_path / "reports" / name / "metrics.json")
    assert (metrics["utterances"], metrics["huggingface.failed"], metrics["fused.failed"]) == (3, 0, 0)
    assert metrics["fused.different_tokens"] == 0
    assert metrics["fused.speedup"] > 0
    title = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())["report"]["title"]
    assert title in (tmp_path / "reports" / f"{name}.html").read_text()


def test_a_process_that_is_killed_in_a_download_loses_nothing(hub: TestHub, tmp_path: Path) -> None:
    """The other process and this one share the cache."""
    content = hub.repositories["models", LARGE_V2].files["model.safetensors"]
    hub.pause_after = len(content) // 2
    command = f"from whisper_speedup.checkpoints.hub import fetch; fetch({LARGE_V2!r}, None)"
    with subprocess.Popen([sys.executable, "-c", command], env=environment(hub, tmp_path / "cache")) as process:
        assert hub.paused.wait(300)
        process.kill()
    hub.pause_after = None
    hub.resume.set()
    begun = downloads.begun(LARGE_V2, "model")
    hub.requests.clear()
    folder, _ = fetch(LARGE_V2, None)
    assert (folder / "model.safetensors").read_bytes() == content
    assert sum(one.sent for one in hub.requests if one.file == "model.safetensors") == len(content) - begun
    assert not list(tmp_path.rglob("*.incomplete"))
