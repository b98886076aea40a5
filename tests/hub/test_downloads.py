"""Interrupted downloads go on where they broke; what is not what the hub promised is refused."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from tests.hub.content import LARGE_V2, LIBRISPEECH
from tests.hub.server import TestHub, git_oid
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.errors import UserError
from whisper_speedup.hub import downloads, revisions
from whisper_speedup.hub.downloads import Wanted, fetch, wanted
from whisper_speedup.params.sources import Hub

WEIGHTS = "model.safetensors"


def commit(hub: TestHub, kind: str = "models", name: str = LARGE_V2) -> str:
    return hub.repositories[kind, name].commit


def weights(hub: TestHub) -> list[Wanted]:
    return wanted(LARGE_V2, "model", commit(hub), [WEIGHTS])


def test_wanted_says_what_would_be_fetched_and_fetches_nothing(hub: TestHub) -> None:
    whole = hub.repositories["datasets", LIBRISPEECH].files
    files = wanted(LIBRISPEECH, "dataset", commit(hub, "datasets", LIBRISPEECH), ["clean/test/*.parquet"])
    assert files == [Wanted(name, len(whole[name]), False)
                     for name in ("clean/test/0000.parquet", "clean/test/0001.parquet")]  # fmt: skip
    assert hub.fetched() == set()
    fetch(LIBRISPEECH, "dataset", commit(hub, "datasets", LIBRISPEECH), files[:1])
    again = wanted(LIBRISPEECH, "dataset", commit(hub, "datasets", LIBRISPEECH), ["clean/test/*.parquet"])
    assert [file.cached for file in again] == [True, False]


def test_a_run_that_was_cut_is_taken_up_where_it_broke(hub: TestHub) -> None:
    files, content = weights(hub), hub.repositories["models", LARGE_V2].files[WEIGHTS]
    hub.cut_after = hub.sent + len(content) // 2
    with pytest.raises(UserError, match=r"could not be fetched from the hub at http://127\.0\.0\.1"):
        fetch(LARGE_V2, "model", commit(hub), files)
    assert downloads.begun(LARGE_V2, "model") == len(content) // 2
    hub.start()
    hub.requests.clear()
    folder = fetch(LARGE_V2, "model", commit(hub), files)
    assert (folder / WEIGHTS).read_bytes() == content
    assert hub.sent == len(content) - len(content) // 2
    assert [one.range for one in hub.requests if one.path.startswith("/lfs/") and one.method == "GET"] == [
        f"bytes={len(content) // 2}-"
    ]
    assert downloads.begun(LARGE_V2, "model") == 0


def test_a_connection_that_breaks_is_taken_up_at_once(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is back by the time of the next try."""
    files, content = weights(hub), hub.repositories["models", LARGE_V2].files[WEIGHTS]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if hub.server is None:
            hub.start()

    monkeypatch.setattr(downloads.time, "sleep", wait)
    hub.cut_after = hub.sent + 1000
    folder = fetch(LARGE_V2, "model", commit(hub), files)
    assert (folder / WEIGHTS).read_bytes() == content
    assert hub.sent == len(content)
    assert len(waits) <= 2


def test_a_server_without_ranges_sends_it_all_again(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    files, content = weights(hub), hub.repositories["models", LARGE_V2].files[WEIGHTS]
    part = downloads._blobs(LARGE_V2, "model") / f"{sha(content)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:5000])
    hub.ranges = False
    folder = fetch(LARGE_V2, "model", commit(hub), files)
    assert (folder / WEIGHTS).read_bytes() == content


def test_answers_that_end_early_are_taken_up_too(hub: TestHub) -> None:
    """As from a proxy with a limit; each is whole by its own account."""
    files, content = weights(hub), hub.repositories["models", LARGE_V2].files[WEIGHTS]
    hub.short = 50_000
    assert (fetch(LARGE_V2, "model", commit(hub), files) / WEIGHTS).read_bytes() == content
    assert hub.sent == len(content)


def test_answers_that_never_get_any_further_end_in_one_sentence(hub: TestHub) -> None:
    files = weights(hub)
    hub.short, hub.ranges = 50_000, False
    with pytest.raises(UserError, match=r"bytes were announced and the answer ended after 50000\): go online"):
        fetch(LARGE_V2, "model", commit(hub), files)


@pytest.mark.parametrize("left", [b"", b"x" * 10**6])
def test_what_an_interrupted_run_left_cannot_be_more_than_the_file(hub: TestHub, left: bytes) -> None:
    files, content = weights(hub), hub.repositories["models", LARGE_V2].files[WEIGHTS]
    part = downloads._blobs(LARGE_V2, "model") / f"{sha(content)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert (fetch(LARGE_V2, "model", commit(hub), files) / WEIGHTS).read_bytes() == content


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_bytes_that_are_not_what_the_etag_says_are_refused(
    hub: TestHub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = hub.repositories["models", LARGE_V2].files[name]
    hub.garble = True
    with pytest.raises(UserError, match=f"{name} of {LARGE_V2} did not come as the hub announced it"):
        fetch(LARGE_V2, "model", commit(hub), wanted(LARGE_V2, "model", commit(hub), [name]))
    hub.garble = False
    folder = fetch(LARGE_V2, "model", commit(hub), wanted(LARGE_V2, "model", commit(hub), [name]))
    assert (folder / name).read_bytes() == content


def test_a_file_that_changed_under_a_pinned_revision_is_refused(hub: TestHub, tmp_path: Path) -> None:
    """Another machine, or an emptied cache, and a hub that serves something else for the same commit."""
    model = Hub(source="hub", id=LARGE_V2, revision=commit(hub))
    prepare(model)
    recorded = revisions.REVISIONS.read_text()
    assert f'"{LARGE_V2}@{commit(hub)}"' in recorded
    shutil.rmtree(tmp_path / "cache" / "hub")
    changed = hub.repositories["models", LARGE_V2].files
    changed["normalizer.json"] = b'{"colour": "color"}'
    with pytest.raises(UserError, match=r"normalizer\.json of the model .* must not change under a commit"):
        prepare(model)
    assert revisions.REVISIONS.read_text() == recorded


def test_a_hub_that_answers_for_another_commit_is_refused(hub: TestHub) -> None:
    files = weights(hub)
    asked = commit(hub)
    hub.repositories["models", LARGE_V2].commit = "f" * 40
    hub.accept = {asked}
    with pytest.raises(UserError, match=f"answered for commit {'f' * 40} of {LARGE_V2} where {asked}"):
        fetch(LARGE_V2, "model", asked, files)


def test_names_are_taken_literally(hub: TestHub) -> None:
    files = hub.repositories["models", LARGE_V2].files
    files["a[1]*?.json"] = b"odd"
    hub.repositories["models", LARGE_V2].__post_init__()
    folder = fetch(LARGE_V2, "model", commit(hub), [Wanted("a[1]*?.json", 3, False)])
    assert (folder / "a[1]*?.json").read_bytes() == b"odd"
    assert [path.name for path in folder.iterdir()] == ["a[1]*?.json"]


def test_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whisper")
    assert downloads._digest(path, "0" * 40) == git_oid(b"whisper")
    assert downloads._digest(path, "0" * 64) == sha(b"whisper")
    assert downloads._digest(path, "an-md5-5") is None


def sha(content: bytes) -> str:
    return sha256(content).hexdigest()
