"""Each bad input: exit code 2, its own sentence, nothing half-written; and once it is mended, the stage goes on."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.checkpoints import folders
from tests.faults.bad_inputs import CASES, Case
from whisper_speedup.cli import main
from whisper_speedup.params.engines import engine_names

ROOT = Path(__file__).parents[2]
SENTENCES = yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text(encoding="utf-8"))
PROGRESS = re.compile(r"(decoding|going on)\b.*: \d+ of \d+ .*")
WRITES = {
    "data": "build/bundled/data/manifest.jsonl", "model": "build/bundled/model.json", "profile": "params.yaml",
    "decode": "build/bundled/runs/fused/run.json", "compare": "reports/bundled/metrics.json",
    "report": "reports/bundled.html",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every stage has run: two tones, a random Whisper of a few kilobytes."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for key, value in {"vocab_size": 1865, "max_source_positions": 1500, "max_target_positions": 64}.items():
            patch.setitem(folders.CONFIG, key, value)
        folders.write_folder(Path("whisper"))
        Path("tones").mkdir()
        for number in range(2):
            tone = 0.1 * np.sin(2 * np.pi * 300 * (1 + number) * np.arange(8000) / 16000)
            soundfile.write(f"tones/{number}.wav", tone, 16000)
        Path("samples").mkdir()
        for name in ("cards-001.flac", "cards-002.flac"):
            shutil.copy(ROOT / "samples" / name, "samples")
        listed = (ROOT / "samples" / "transcripts.jsonl").read_text().splitlines(keepends=True)
        Path("samples/transcripts.jsonl").write_text(
            "".join(line for line in listed if re.search("cards-00[12]", line))
        )
        content = yaml.safe_load((ROOT / "profiles" / "bundled.yaml").read_text())
        content["data"] = {"source": "folder", "path": "tones"}
        content["model"] = {"source": "local", "path": "whisper"}
        content["generation"] = {"num_beams": 1, "max_length": 4}
        content["measure"] = {"device": "cpu", "threads": 1}
        Path("profiles").mkdir()
        Path("profiles/bundled.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        Path("params.yaml").write_text("profile: bundled\nengines: [fused]\n")
        for stage in ("data", "model", "decode --engine huggingface", "decode --engine fused", "compare", "report"):
            main(stage.split())
    return folder


def expected(name: str) -> str:
    """The case's sentence, with the engines that there are."""
    return SENTENCES[name].replace("ENGINES", ", ".join(engine_names()))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_bad_input(
    case: Case, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    shutil.copytree(whole, project)
    monkeypatch.chdir(project)
    case.breaks()
    before = files(project)
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(case.stage.split())
    out, err = capfd.readouterr()
    *earlier, sentence = err.splitlines()
    assert stopped.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    assert [line for line in earlier if not PROGRESS.fullmatch(line)] == []
    assert re.sub(r"\b[0-9a-f]{64}\b", "SHA256", sentence) == f"error: {expected(case.name)}"
    assert files(project) == before  # nothing written, nothing half-written, no lock left

    # Mended by hand: every file but what the stage itself writes is as it was.
    stage = case.stage.split()[0]
    written = Path(WRITES[stage])
    shutil.rmtree(project / "build", ignore_errors=True)
    (project / "build").unlink(missing_ok=True)
    shutil.copytree(whole, project, dirs_exist_ok=True)
    for extra in set(files(project)) - set(files(whole)):
        (project / extra).unlink()
    if stage != "profile":
        written.unlink()
    main([stage, *(["--engine", "fused"] if stage == "decode" else [])])
    assert written.is_file()


def test_there_are_enough_and_each_has_its_sentence() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 60
    assert sorted(names) == sorted(SENTENCES)
    for sentence in SENTENCES.values():
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert not re.search(r"\b(Errno|NoneType|object at|Exception)\b", sentence)
