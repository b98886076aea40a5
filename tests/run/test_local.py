"""Speech and weights for a worker that sees the driver's files, and for one that does not."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints.folders import write_folder
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints import prepare as checkpoints
from whisper_speedup.checkpoints.identity import Checkpoint, read_checkpoint
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import Profile
from whisper_speedup.params.sources import Hub, Local
from whisper_speedup.run import benchmark
from whisper_speedup.run.local import Clips, Recorded
from whisper_speedup.run.messages import Item


def test_audio_that_came_along_gives_the_same_features(profile: Profile) -> None:
    path = Path("build/p/data/manifest.jsonl")
    row = read_manifest(path)[3]
    here = Clips(path, "cpu").open(Path("weights"), torch.device("cpu"))
    elsewhere = Clips(Path("/not/here/manifest.jsonl"), "cpu")
    assert not elsewhere.visible()
    assert Clips(path, "cpu").visible()
    sent = benchmark._with_audio(3, row, path)
    features = elsewhere.open(Path("weights"), torch.device("cpu"))(sent)
    assert torch.equal(features, here(Item(3, row)))
    with pytest.raises(UserError, match="another SHA-256"):
        elsewhere.open(Path("weights"), torch.device("cpu"))(Item(3, row, audio=b"something else"))


def test_audio_that_cannot_be_sent_carries_its_reason(profile: Profile) -> None:
    path = Path("build/p/data/manifest.jsonl")
    rows = read_manifest(path)
    broken = next(row for row in rows if row.error is not None)
    assert benchmark._with_audio(0, broken, path).row.error == broken.error
    assert rows[0].audio is not None
    (path.parent / rows[0].audio).unlink()
    sent = benchmark._with_audio(0, rows[0], path)
    assert sent.row.error is not None
    assert "does not exist" in sent.row.error


def told() -> Checkpoint:
    return read_checkpoint(Path("build/p/model.json"))


def test_weights_that_are_seen_are_checked(profile: Profile) -> None:
    local = Local(source="local", path="weights")
    assert Recorded(local, told(), Path("weights").absolute()).folder() == Path("weights").absolute()
    (Path("weights") / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json"):
        Recorded(local, told(), Path("weights").absolute()).folder()


def test_a_local_folder_that_is_not_seen(profile: Profile) -> None:
    with pytest.raises(UserError, match=r"^a worker does not see /not/here: put the weights on storage"):
        Recorded(Local(source="local", path="/not/here"), told(), Path("/not/here")).folder()


def test_weights_are_brought_at_the_drivers_revision_and_checked(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    def prepare(model: Hub, folder: Path) -> Checkpoint:
        asked.append((model.revision, folder))
        return told().but(path=str(brought))

    monkeypatch.setattr(checkpoints, "prepare", prepare)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    brought = Path("weights").absolute()
    hub = Hub(source="hub", id="openai/whisper-tiny")
    content = told().but(revision="a" * 40)
    assert Recorded(hub, content, Path("/not/here")).folder() == brought
    assert asked == [("a" * 40, tmp_path / "cache/whisper-speedup/models")]
    brought = tmp_path / "others"
    write_folder(brought)  # other random weights
    with pytest.raises(UserError, match=r"the driver's model\.json expects"):
        Recorded(hub, content, Path("/not/here")).folder()
