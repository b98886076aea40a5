"""`dvc metrics show` and `dvc plots show` give the page's numbers, from the committed results alone."""

import shutil
from pathlib import Path

import pytest
from dvc.render.match import match_defs_renderers
from dvc.repo import Repo

from whisper_speedup.disk.files import read_json, read_jsonl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repo(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("profile: bundled\nengines: [fused]\n")  # whichever is in force here
    for name in ("profiles", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(no_scm=True).close()
    with Repo() as opened:
        yield opened


def test_metrics(repo):
    shown = repo.metrics.show()[""]["data"]["reports/bundled/metrics.json"]
    metrics = read_json(ROOT / "reports" / "bundled" / "metrics.json")
    assert shown["data"] == {key: value for key, value in metrics.items() if value is not None}  # DVC leaves out nulls


def test_plots(repo):
    latency = read_jsonl(ROOT / "reports" / "bundled" / "latency.jsonl")
    drawn = {found.renderer.name: found for found in match_defs_renderers(repo.plots.show())}
    assert sorted(drawn) == [
        "Seconds of each utterance against its tokens, baseline",
        "Seconds of each utterance against its tokens, engines",
        "Seconds of each utterance against the baseline's",
    ]
    for found in drawn.values():
        assert not found.definition_errors
        assert not found.source_errors
        points = found.renderer.datapoints
        assert len(points) == len(latency)
        for point, row in zip(points, latency, strict=True):
            assert float(point["huggingface"]) == row["engines"]["huggingface"]["seconds"]
            assert float(point["fused"]) == row["engines"]["fused"]["seconds"]
        assert found.renderer.get_filled_template()["data"]["values"]
