"""The waterfall: rungs in the profile's order, what each adds, what it saves, what was left out."""

from pathlib import Path
from typing import Any

import pytest
from generated_runs import GeneratedRuns, generate, profile

from whisper_speedup.compare import compare
from whisper_speedup.compare.latency import Latency
from whisper_speedup.disk.files import read_json, sha256, write_json, write_jsonl
from whisper_speedup.disk.records import read_records
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import Params
from whisper_speedup.report import summary
from whisper_speedup.report.ladder import ladder
from whisper_speedup.report.render import render
from whisper_speedup.report.speed import speed
from whisper_speedup.run.rows import LeftOut

RUNGS: dict[str, tuple[float, list[str]]] = {
    "ladder.own_loop": (0.5, []),
    "ladder.shared_cross_attention": (0.25, ["shared_cross_attention"]),
    "ladder.ancestry": (0.375, ["shared_cross_attention", "ancestry"]),
}
ENGINES = [*RUNGS, "ladder.kernels", "fused"]
TIMES = "\N{MULTIPLICATION SIGN}"


def runs() -> GeneratedRuns:
    """12 utterances; a rung takes its share of the baseline's time, `fused` an eighth."""
    made = generate(12)

    def add(engine: str, share: float, on: list[str]) -> None:
        rows = [
            {**theirs, "seconds": [before * share for before in theirs["seconds"]]}
            for theirs in made.results["huggingface"]
        ]
        about = {**made.about["fused"], "engine": engine}
        made.results[engine] = rows
        made.about[engine] = about | {"settings": {**about["settings"], "on": on}}

    for engine, (share, on) in RUNGS.items():
        add(engine, share, on)
    add("fused", 0.125, ["shared_cross_attention", "ancestry", "packed_weights"])
    return made


def leave_out(build: Path, engine: str, why: str) -> None:
    folder = build / "example" / "runs" / engine
    write_jsonl(folder / "results.jsonl", [])
    hashes = dict.fromkeys(("data_sha256", "weights_sha256", "model_sha256"), "0" * 64)
    hashes["results_sha256"] = sha256(folder / "results.jsonl")
    write_json(folder / "run.json", LeftOut(engine=engine, profile="example", left_out=why, **hashes).content())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """reports/example of a ladder whose second rung wrote one text of its own, and whose kernels are left out."""
    monkeypatch.chdir(tmp_path)
    made = runs()
    made.say("ladder.shared_cross_attention", 3, "something else")
    build = made.write(tmp_path)
    leave_out(build, "ladder.kernels", "ladder.kernels is left out, because it has what needs a GPU (kernels).")
    return compare(profile(), "example", Params(profile="example", engines=ENGINES))


def results(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[Latency]]:
    return (
        read_json(folder / "context.json"), read_json(folder / "metrics.json"),
        read_records(Latency, folder / "latency.jsonl"),
    )  # fmt: skip


def test_each_row_adds_a_part_and_says_what_it_saves(folder: Path) -> None:
    context, metrics, latency = results(folder)
    total = metrics["huggingface.total_s"]
    table = ladder(context, metrics, latency)
    assert table is not None
    assert [label for _, label, _, _ in table.rows] == [
        "Hugging Face", "Own loop", "+ shared cross-attention", "+ ancestry", "+ packed weights, which makes Fused",
    ]  # fmt: skip
    shares = [1, 0.5, 0.25, 0.375, 0.125]
    assert [float(cells[0]) for *_, cells in table.rows] == pytest.approx([total * share for share in shares], abs=0.06)
    assert [cells[2].split()[0] for *_, cells in table.rows[1:]] == [
        f"{x}{TIMES}" for x in ("2.00", "2.00", "0.67", "3.00")
    ]
    assert [cells[3] for *_, cells in table.rows] == [f"{x}{TIMES}" for x in ("1.00", "2.00", "4.00", "2.67", "8.00")]
    assert [cells[4] for *_, cells in table.rows[1:]] == ["0 of 12", "1 of 12", "0 of 12", "0 of 12"]


def test_a_step_down_is_drawn_as_a_loss_and_one_up_as_a_gain(folder: Path) -> None:
    table = ladder(*results(folder))
    assert table is not None
    kinds = [
        "loss" if 'class="loss"' in bar else "gain" if 'class="gain"' in bar else "" for _, _, bar, _ in table.rows
    ]
    assert kinds == ["", "gain", "gain", "loss", "gain"]
    assert table.rows[3][3][1].startswith("\N{MINUS SIGN}")


def test_what_was_left_out_is_said_and_not_drawn(folder: Path) -> None:
    context, metrics, latency = results(folder)
    table = ladder(context, metrics, latency)
    assert table is not None
    assert table.notes == ["Rung kernels is left out, because it has what needs a GPU (kernels)."]
    assert "ladder.kernels" not in context["engines"]
    assert not [key for key in metrics if key.startswith("ladder.kernels")]
    header, first = Path("reports/example/utterances.csv").read_text().splitlines()[:2]
    assert header == f"utterance,audio_s,tokens,huggingface,{','.join(ENGINES)}"
    assert first.split(",")[header.split(",").index("ladder.kernels")] == ""


def test_every_part_that_is_on_is_explained(folder: Path) -> None:
    table = ladder(*results(folder))
    assert table is not None
    assert [word for word, _ in table.terms] == ["own loop", "shared cross-attention", "ancestry", "packed weights"]


def test_the_page_holds_it_and_its_tables_keep_their_width(folder: Path) -> None:
    page = render("example").read_text()
    assert "What each optimisation brings" in page
    assert "Rung kernels is left out" in page
    assert "--others: 1;" in page  # the table of utterances has columns for `fused` alone
    context, metrics, latency = results(folder)
    assert "profile ladder measures it" not in " ".join(speed(context, metrics, latency).missing)
    assert "3 more runs climb from one to the other" in summary.subject(context)


def test_a_ladder_of_which_nothing_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build = generate(2).write(tmp_path)
    leave_out(build, "ladder.kernels", "ladder.kernels is left out, because.")
    with pytest.raises(UserError, match=r"none of params\.yaml's engines runs on this machine"):
        compare(profile(), "example", Params(profile="example", engines=["ladder.kernels"]))
    assert not Path("reports").exists()
