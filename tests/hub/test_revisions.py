import json
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled

from whisper_speedup.errors import UserError
from whisper_speedup.hub import revisions

A, B = "a" * 40, "0123456789" * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revisions.json"


def answer(monkeypatch: pytest.MonkeyPatch, kind: str, commit: str | Exception) -> list[str]:
    """Make the hub answer `commit`; returns the list of repositories that were asked for."""
    asked: list[str] = []

    def info(self: HfApi, repo_id: str, **_: object) -> SimpleNamespace:
        asked.append(repo_id)
        if isinstance(commit, Exception):
            raise commit
        return SimpleNamespace(sha=commit)

    monkeypatch.setattr(HfApi, f"{kind}_info", info)
    return asked


def test_first_use_records_the_commit_and_later_ones_do_not_ask(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "model", A)
    assert revisions.resolve("openai/whisper-tiny", "model", None, path) == A
    answer(monkeypatch, "model", B)
    assert revisions.resolve("openai/whisper-tiny", "model", None, path) == A
    assert asked == ["openai/whisper-tiny"]
    assert revisions.read(path) == {"openai/whisper-tiny": A}


def test_a_dataset_and_a_model_of_one_name_are_two_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "model", A)
    answer(monkeypatch, "dataset", B)
    assert revisions.resolve("x/y", "model", None, path) == A
    assert revisions.resolve("x/y", "dataset", None, path) == B
    assert revisions.read(path) == {"datasets/x/y": B, "x/y": A}


def test_the_profile_wins_and_nothing_is_recorded(path: Path) -> None:
    assert revisions.resolve("x/y", "model", B, path) == B
    assert not path.exists()


@pytest.mark.parametrize("error", [httpx.ConnectError("Name or service not known"), ConnectionResetError("reset")])
def test_unreachable_hub_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    answer(monkeypatch, "dataset", error)
    with pytest.raises(UserError, match=r"x/y could not be fetched .*PROFILE=bundled.*HF_HUB_OFFLINE=1"):
        revisions.resolve("x/y", "dataset", None, path)
    assert not path.exists()


def test_offline_takes_the_commit_in_the_cache(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "dataset", OfflineModeIsEnabled("offline"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        revisions.resolve("x/y", "dataset", None, path)
    ref = tmp_path / "hub" / "datasets--x--y" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(A)
    assert revisions.resolve("x/y", "dataset", None, path) == A


@pytest.mark.parametrize(
    "content",
    ["[]", '{"x/y": "main"}', '{"x/y": 3}', "{", f'{{"x/y@{A}": "{A}"}}', f'{{"x/y@{A}": {{"config.json": "abc"}}}}'],
)
def test_a_damaged_file_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(UserError, match=r"revisions\.json"):
        revisions.resolve("x/y", "model", None, path)


def test_a_hub_without_a_commit_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "model", "main")
    with pytest.raises(UserError, match="named no commit"):
        revisions.resolve("x/y", "model", None, path)


C, D = "c" * 64, "d" * 64


def test_files_are_recorded_under_their_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions.confirm("x/y", "dataset", A, {"a.parquet": C}, path)
    revisions.confirm("x/y", "dataset", A, {"b.parquet": D}, path)
    answer(monkeypatch, "dataset", A)
    assert revisions.resolve("x/y", "dataset", None, path) == A
    before = path.read_bytes()
    revisions.confirm("x/y", "dataset", A, {"a.parquet": C, "b.parquet": D}, path)
    assert path.read_bytes() == before
    assert json.loads(before) == {"datasets/x/y": A, f"datasets/x/y@{A}": {"a.parquet": C, "b.parquet": D}}


def test_a_changed_file_is_refused_under_its_commit_alone(path: Path) -> None:
    revisions.confirm("x/y", "model", A, {"config.json": C}, path)
    with pytest.raises(
        UserError, match=rf"config\.json of the model x/y has the SHA-256 {D} .* records {C} for commit {A}"
    ):
        revisions.confirm("x/y", "model", A, {"config.json": D, "new.json": C}, path)
    revisions.confirm("x/y", "model", B, {"config.json": D}, path)
    revisions.confirm("x/y", "dataset", A, {"config.json": D}, path)
    assert json.loads(path.read_text())[f"x/y@{A}"] == {"config.json": C}
