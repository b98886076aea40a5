"""Weights from the hub over real HTTP: every layout found in the wild, fetched from the test hub."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load

from tests.hub.content import LARGE_V2, OLD, OLD_SHARDED, SHARDED, TINY_EN, TWO_PRECISIONS
from tests.hub.server import Repository, TestHub
from whisper_speedup.checkpoints.folder import check
from whisper_speedup.checkpoints.hub import fetch
from whisper_speedup.checkpoints.load import load_model
from whisper_speedup.errors import UserError
from whisper_speedup.hub import revisions

SETTINGS = {
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json", "normalizer.json",
    "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
}  # fmt: skip
NEW = {*SETTINGS, "tokenizer.json"}


def repository(hub: TestHub, name: str) -> Repository:
    return hub.repositories["models", name]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (LARGE_V2, {*NEW, "model.safetensors"}),
        (TINY_EN, {*NEW, "model.safetensors"}),
        (TWO_PRECISIONS, {*NEW, "model.safetensors"}),
        (SHARDED, {*NEW, "model.safetensors.index.json", *(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))}),
        (OLD, {*SETTINGS, "pytorch_model.bin"}),
        (OLD_SHARDED, {*SETTINGS, "pytorch_model.bin.index.json",
                       *(f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2))}),
    ],
)  # fmt: skip
def test_each_layout_is_fetched_as_far_as_it_is_read_and_loads(hub: TestHub, name: str, files: set[str]) -> None:
    folder, commit = fetch(name, None)
    assert commit == repository(hub, name).commit
    assert revisions.read() == {name: commit}
    assert hub.fetched() == files == {path.name for path in folder.iterdir()}
    assert folder.is_relative_to(constants.HF_HUB_CACHE)
    assert all((folder / file).read_bytes() == repository(hub, name).files[file] for file in files)
    assert check(folder) == sum(value.numel() for value in load_model(folder, torch.float32, "sdpa").parameters())


def test_the_layouts_of_one_model_hold_the_same_weights(hub: TestHub) -> None:
    expected = load(repository(hub, LARGE_V2).files["model.safetensors"])
    for name in (SHARDED, OLD, OLD_SHARDED):
        found = load_model(fetch(name, None)[0], torch.float32, "sdpa").state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_what_the_cache_holds_is_not_asked_for_again(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(LARGE_V2, None)
    hub.requests.clear()
    assert fetch(LARGE_V2, None) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(LARGE_V2, None) == first
    assert hub.requests == []
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set and the cache lacks some of it"):
        fetch(SHARDED, repository(hub, SHARDED).commit)


def test_offline_a_cache_that_another_program_filled_is_enough(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers keeps no listing of the repository beside the files that it fetches."""
    folder, commit = fetch(LARGE_V2, None)
    listings = folder.parents[1] / "trees"
    assert listings.is_dir()
    shutil.rmtree(listings)
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(LARGE_V2, commit) == (folder, commit)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="the cache lacks some of it"):
        fetch(LARGE_V2, commit)


def test_a_name_that_no_repository_can_have_is_one_sentence_with_a_revision_too(hub: TestHub) -> None:
    with pytest.raises(UserError, match=r"the hub has no model open--ai/whisper: correct its name"):
        fetch("open--ai/whisper", "0" * 40)


def test_a_profile_s_own_revision_is_not_recorded_as_the_project_s(hub: TestHub) -> None:
    fetch(LARGE_V2, repository(hub, LARGE_V2).commit)
    assert not revisions.REVISIONS.exists()


def test_a_repository_without_weights_is_refused(hub: TestHub) -> None:
    del repository(hub, OLD).files["pytorch_model.bin"]
    folder, _ = fetch(OLD, None)
    with pytest.raises(UserError, match=r"model.safetensors or .* missing"):
        check(folder)


def test_the_main_branch_moves_on_and_the_recorded_commit_stays(hub: TestHub) -> None:
    old = repository(hub, LARGE_V2)
    first = fetch(LARGE_V2, None)
    newer = Repository("models", LARGE_V2, {**old.files, "config.json": b"{}"})
    hub.repositories["models", LARGE_V2] = newer
    assert newer.commit != old.commit
    assert fetch(LARGE_V2, None) == first


def test_nothing_outside_the_cache_is_written(hub: TestHub, tmp_path: Path) -> None:
    fetch(SHARDED, None)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "work"}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"revisions.json"}
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
