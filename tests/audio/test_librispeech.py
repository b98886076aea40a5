"""A hub made in a directory: `snapshot_download` and `hf_hub_download` are replaced, the rest is real."""

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from whisper_speedup.audio.decode import decode
from whisper_speedup.audio.librispeech import open_librispeech
from whisper_speedup.errors import UserError
from whisper_speedup.params import LibriSpeech

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: clean
  data_files:
  - split: test
    path: clean/test/*.parquet
  - split: train.100
    path: [clean/train.100/*.parquet]
- config_name: other
---
# LibriSpeech
"""


def dataset(**changes: object) -> LibriSpeech:
    return LibriSpeech.model_validate(
        {
            "source": "librispeech",
            "dataset": "openslr/librispeech_asr",
            "config": "clean",
            "split": "test",
            "revision": COMMIT,
            "limit": None,
            "variations": None,
            **changes,
        }
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Callable[..., bytes]) -> Path:
    """A repository with four test clips in two files, and a training split that nobody may fetch."""
    root = tmp_path / "hub"
    for file, count, first in [("test/0000", 3, 0), ("test/0001", 1, 3), ("train.100/0000", 1, 9)]:
        path = root / "clean" / f"{file}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = [np.full(1600 + first + i, 0.1, dtype=np.float32) for i in range(count)]
        rows = {
            "file": [f"{i}.flac" for i in range(count)],
            "audio": [{"bytes": encode(s, container="FLAC"), "path": f"{i}.flac"} for i, s in enumerate(samples)],
            "text": [f"WORD {first + i}" for i in range(count)],
            "speaker_id": [61 for _ in range(count)],
            "id": [f"61-70968-{first + i:04}" for i in range(count)],
        }
        # The hub's files say so: read without care, their audio column would be decoded, with torchcodec.
        features: dict[str, Any] = {
            "info": {"features": {name: {"dtype": "string", "_type": "Value"} for name in ("file", "text", "id")}}
        }
        features["info"]["features"]["speaker_id"] = {"dtype": "int64", "_type": "Value"}
        features["info"]["features"]["audio"] = {"sampling_rate": 16_000, "_type": "Audio"}
        pq.write_table(pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(features)}), path)
    (root / "README.md").write_text(CARD)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def file_download(repo_id: str, filename: str, *, repo_type: str, revision: str) -> str:
        assert (repo_id, repo_type, revision) == ("openslr/librispeech_asr", "dataset", COMMIT)
        if not (root / filename).exists():
            raise RemoteEntryNotFoundError("404", response=httpx.Response(404, request=httpx.Request("GET", "x:/")))
        return str(root / filename)

    def snapshot(repo_id: str, *, repo_type: str, revision: str, allow_patterns: list[str]) -> str:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*.parquet")]
        chosen = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)]
        target = tmp_path / "snapshot"
        for name in chosen:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((root / name).read_bytes())
        return str(target)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", file_download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return root


def test_one_split_in_order_and_nothing_else_fetched(hub: Path, tmp_path: Path) -> None:
    clips = open_librispeech(dataset())
    assert [clip.id for clip in clips] == [f"61-70968-000{i}" for i in range(4)]
    assert clips[3].reference == "WORD 3"
    assert {clip.speaker for clip in clips} == {"61"}
    assert [len(decode(clip.read()).samples) for clip in clips] == [1600, 1601, 1602, 1603]
    assert not (tmp_path / "snapshot/clean/train.100").exists()


def test_limit(hub: Path) -> None:
    assert [clip.id[-1] for clip in open_librispeech(dataset(limit=2))] == ["0", "1"]
    assert len(open_librispeech(dataset(limit=99))) == 4


@pytest.mark.parametrize("card", [None, "no front matter", "---\nconfigs:\n- config_name: clean\n---\n"])
def test_without_a_useful_card_the_usual_places(hub: Path, card: str | None) -> None:
    (hub / "README.md").unlink()
    if card:
        (hub / "README.md").write_text(card)
    (hub / "clean/test/0001.parquet").unlink()
    assert len(open_librispeech(dataset())) == 3
    (hub / "clean/test/0000.parquet").rename(hub / "clean/validation-00000-of-00001.parquet")
    assert len(open_librispeech(dataset(split="validation"))) == 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": "dirty"}, "has no configuration 'dirty': choose from clean, other"),
        ({"split": "tset"}, "clean, tset, is no split of openslr/librispeech_asr: choose from test, train.100"),
        ({"config": "other", "split": "test"}, "has no Parquet files at commit 0123"),
    ],
)
def test_unknown_config_and_split(hub: Path, changes: dict[str, str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        open_librispeech(dataset(**changes))


def test_columns_that_are_missing(hub: Path) -> None:
    for file in (hub / "clean/test").iterdir():
        pq.write_table(pq.read_table(file).drop_columns(["text", "id"]), file)
    with pytest.raises(UserError, match="has no column id, text"):
        open_librispeech(dataset())


def test_a_damaged_download(hub: Path) -> None:
    (hub / "clean/test/0000.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be read") as caught:
        open_librispeech(dataset())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("not cached"), httpx.ConnectError("Name not known")])
def test_unreachable(hub: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(UserError, match=r"PROFILE=bundled.*HF_HUB_OFFLINE=1"):
        open_librispeech(dataset())


def test_really_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing replaced: an empty cache and the offline switch."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for revision in (None, COMMIT):
        with pytest.raises(UserError, match=r"openslr/librispeech_asr could not be fetched .*PROFILE=bundled"):
            open_librispeech(dataset(revision=revision))
    assert not (tmp_path / "revisions.json").exists()
