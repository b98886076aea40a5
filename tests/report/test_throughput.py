"""The section about many at once: when it is there, its tables, the curve, and what it leaves as it was."""

import re
from pathlib import Path
from typing import Any

import pytest
from generated_batches import batches
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.disk.files import read_json, read_jsonl, write_json
from whisper_speedup.params.profile import Params
from whisper_speedup.report import summary
from whisper_speedup.report.render import render
from whisper_speedup.report.throughput import SHOWN, throughput

CURVE = [
    {"workers": 1, "utterances_per_s": 112.0, "device": "NVIDIA H100"},
    {"workers": 2, "utterances_per_s": 218.4, "device": "NVIDIA H100"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    batches(12, lost=True).write(tmp_path)
    return compare(profile(), "example", Params(profile="example", engines=["fused", "fused_batch"]))


def section(folder: Path) -> str:
    page = render(folder.name, folder.parent).read_text(encoding="utf-8")
    found = re.search(r'<section id="throughput">.*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_sections_tables(folder: Path) -> None:
    found = throughput(read_json(folder / "context.json"), read_json(folder / "metrics.json"), [])
    assert found is not None
    columns = {column.title: column.cells for column in found.table}
    assert found.engines == ["huggingface", "fused", "fused_batch"]
    assert columns["At once"] == ["2", "2", "64"]
    assert float(columns["Rate"][2]) == 6
    assert float(columns["This set of 12"][2]) == pytest.approx(2, rel=0.01)
    assert [cells for _, _, _, cells in found.shares.rows] == [["25", "75"], ["25", "75"], ["75", "25"]]
    lost = found.workers[-1].rows
    assert [name for _, name, _, _ in lost] == [
        "0, NVIDIA H100 80GB HBM3", "1, NVIDIA H100 80GB HBM3, lost", "1, NVIDIA H100 80GB HBM3",
    ]  # fmt: skip
    assert found.drawing is None
    assert any("was lost on the way" in note for note in found.notes)


def test_the_page_has_it_and_the_sources(folder: Path) -> None:
    text = section(folder)
    for source in ("github.com/ELS-RD/kernl", "mlcommons.org", "open_asr_leaderboard"):
        assert f'href="https://{source}' in text or source in text
    assert ">67.9<" in text
    assert ">144<" in text
    assert ">2.55<" in text  # 2620 in 17.1 minutes
    assert "More workers" not in text


def test_the_curve_where_somebody_measured_it(folder: Path) -> None:
    write_json(folder / "scaling.json", {"rows": CURVE})
    assert "2 workers reached 1.95 times one worker" in section(folder)


def test_single_utterances_are_never_compared_with_shared_ones(folder: Path) -> None:
    context = read_json(folder / "context.json")
    assert summary.compared(context) == ["huggingface", "fused"]
    assert summary.first_engine(context) == "fused"
    assert "Fused batch decodes many at once." in summary.subject(context)
    assert all("fused_batch" in row["engines"] for row in read_jsonl(folder / "latency.jsonl"))


def test_one_at_a_time_by_one_worker_has_no_such_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = generate(4)
    for engine, about in made.about.items():
        told: dict[str, Any] = {"utterances": 4, "audio_s": 9.0, "seconds": 3.0, "batched": False, "workers": 1}
        about |= {"throughput": told}
        assert engine in made.results
    made.write(tmp_path)
    folder = compare(profile(), "example", params())
    assert "Many at once" not in render("example", folder.parent).read_text(encoding="utf-8")


def test_a_cluster_is_shown_in_part(folder: Path) -> None:
    context = read_json(folder / "context.json")
    one = context["runs"]["fused_batch"]["workers"][0]
    context["runs"]["fused_batch"]["workers"] = [one | {"worker": number} for number in range(SHOWN + 3)]
    found = throughput(context, read_json(folder / "metrics.json"), [])
    assert found is not None
    assert len(found.workers[-1].rows) == SHOWN
    assert found.workers[-1].notes == ["3 more are in context.json."]
