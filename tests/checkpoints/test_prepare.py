from pathlib import Path

import pytest

from tests.checkpoints.folders import write_folder
from whisper_speedup.checkpoints import hub
from whisper_speedup.checkpoints.prepare import checked_folder, prepare
from whisper_speedup.disk.files import read_json, write_json
from whisper_speedup.errors import UserError
from whisper_speedup.params.sources import Bundled, Hub, Local, Synthetic


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model.json for a local folder, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "mine")
    write_json(tmp_path / "model.json", prepare(Local(source="local", path="mine")).content())
    return tmp_path / "model.json"


def test_a_local_folder_is_described_and_not_copied(tmp_path: Path, local: Path) -> None:
    model = prepare(Local(source="local", path=str(tmp_path / "mine")), tmp_path / "models")
    assert (model.source, model.name, model.revision, model.path, model.trained) == (
        "local",
        "mine",
        None,
        "mine",
        True,
    )
    assert [file.name for file in model.files] == sorted(file.name for file in model.files)
    assert len(model.weights_sha256) == 64
    assert not (tmp_path / "models").exists()
    assert checked_folder(local) == Path("mine")


def test_a_path_outside_the_working_directory_stays_absolute(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert prepare(Local(source="local", path="../mine")).path == str(tmp_path / "mine")


def test_a_missing_local_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        prepare(Local(source="local", path=str(tmp_path / "nowhere")))


def test_bundled_weights_are_made_once(tmp_path: Path) -> None:
    model = prepare(Bundled(source="bundled", name="tiny.en"), tmp_path)
    weights = tmp_path / "bundled-tiny.en" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert (model.name, model.trained, model.parameters) == ("whisper-tiny.en", True, 37_760_256)
    assert prepare(Bundled(source="bundled", name="tiny.en"), tmp_path) == model
    assert weights.stat().st_mtime_ns == made


def test_synthetic_weights_are_never_called_trained(tmp_path: Path) -> None:
    model = prepare(Synthetic(source="synthetic", size="tiny.en", seed=3), tmp_path)
    assert (model.name, model.trained) == ("synthetic-whisper-tiny.en", False)
    assert Path(model.path).name == "synthetic-tiny.en-seed3"
    other = prepare(Synthetic(source="synthetic", size="tiny.en", seed=4), tmp_path)
    assert other.weights_sha256 != model.weights_sha256


def test_hub_weights_carry_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "cached")
    monkeypatch.setattr(hub, "fetch", lambda repo_id, revision: (tmp_path / "cached", "a" * 40))
    model = prepare(Hub(source="hub", id="openai/whisper-tiny.en"))
    assert (model.name, model.revision) == ("openai/whisper-tiny.en", "a" * 40)
    recorded = read_json(tmp_path / "revisions.json")
    assert recorded == {f"openai/whisper-tiny.en@{'a' * 40}": {file.name: file.sha256 for file in model.files}}


def test_changed_weights_are_named_with_both_hashes(tmp_path: Path, local: Path) -> None:
    path = tmp_path / "mine" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"model.safetensors has the SHA-256 \w{64} and .*model.json expects \w{64}: run"
    ):
        checked_folder(local)
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"has \d+ bytes and .*model.json expects \d+: run"):
        checked_folder(local)


def test_files_that_came_or_went_are_named(tmp_path: Path, local: Path) -> None:
    (tmp_path / "mine" / "added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match=r"does not hold the files that .* lists \(added_tokens.json\)"):
        checked_folder(local)


def test_a_folder_that_is_gone_says_what_to_do(tmp_path: Path, local: Path) -> None:
    (tmp_path / "mine").rename(tmp_path / "moved")
    with pytest.raises(UserError, match="is gone: run the model stage again"):
        checked_folder(local)


@pytest.mark.parametrize("content", [[], {}, {"path": 3, "files": []}, {"path": "mine", "files": [{"name": "x"}]}])
def test_a_model_json_of_another_kind_is_refused(local: Path, content: object) -> None:
    write_json(local, content)
    with pytest.raises(UserError, match="is not what this version writes"):
        checked_folder(local)
