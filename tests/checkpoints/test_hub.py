"""The hub over real HTTP: a small server on this machine answers as the hub does."""

import json
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from tests.checkpoints.folders import write_folder
from whisper_speedup import revisions
from whisper_speedup.checkpoints.folder import check
from whisper_speedup.checkpoints.hub import fetch
from whisper_speedup.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/whisper-small"


class Hub:
    """The repository's folder, and every request that came, as `METHOD path`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []

    @property
    def fetched(self) -> set[str]:
        return {request.rsplit("/", 1)[1] for request in self.requests if "GET" in request and "/resolve/" in request}


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            names = sorted(file.name for file in hub.folder.iterdir())
            if path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/{COMMIT}"):
                siblings = [{"rfilename": name} for name in names]
                content = json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
            elif path == f"/api/models/{NAME}/tree/{COMMIT}":
                content = json.dumps([{"type": "file", "path": name, "size": 1, "oid": "0"} for name in names]).encode()
            elif path.startswith(f"/{NAME}/resolve/{COMMIT}/") and path.rsplit("/", 1)[1] in names:
                content = (hub.folder / path.rsplit("/", 1)[1]).read_bytes()
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{sha1(path.encode() + content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is for failures."""

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(tmp_path / "repository")
    write_folder(hub.folder)
    (hub.folder / "README.md").write_text("a card")
    (hub.folder / "flax_model.msgpack").write_bytes(b"large")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    files = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield hub
    server.shutdown()
    server.server_close()


def test_only_what_is_read_is_fetched_and_the_commit_is_recorded(tmp_path: Path, hub: Hub) -> None:
    (hub.folder / "pytorch_model.bin").write_bytes(b"large")
    folder, commit = fetch(NAME, None)
    assert commit == COMMIT
    assert folder.is_relative_to(tmp_path / "cache")
    assert revisions.read() == {NAME: COMMIT}
    assert check(folder) == check(hub.folder)
    assert hub.fetched == {
        "config.json", "generation_config.json", "model.safetensors", "normalizer.json", "preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_what_the_cache_holds_is_not_fetched_again(hub: Hub) -> None:
    folder, _ = fetch(NAME, None)
    hub.requests.clear()
    assert fetch(NAME, None) == (folder, COMMIT)
    assert hub.fetched == set()


def test_offline_the_cache_is_enough(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = fetch(NAME, None)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(NAME, None) == (folder, COMMIT)
    assert hub.requests == []
    with pytest.raises(UserError, match="could not be fetched"):
        fetch("someone/not-cached", COMMIT)


def test_a_torch_file_is_fetched_when_there_is_nothing_better(hub: Hub) -> None:
    torch.save(load_file(hub.folder / "model.safetensors"), hub.folder / "pytorch_model.bin")
    (hub.folder / "model.safetensors").unlink()
    folder, _ = fetch(NAME, COMMIT)
    assert check(folder) > 0
    assert "pytorch_model.bin" in hub.fetched
    assert not revisions.REVISIONS.exists()


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    (hub.folder / "model.safetensors").unlink()
    folder, _ = fetch(NAME, COMMIT)
    with pytest.raises(UserError, match=r"model.safetensors or .* missing"):
        check(folder)


def test_an_unknown_repository_is_named(hub: Hub) -> None:
    with pytest.raises(UserError, match="the hub has no model someone/else: correct its name"):
        fetch("someone/else", None)
    assert not revisions.REVISIONS.exists()


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_an_unreachable_hub_says_what_to_do_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(UserError, match=r"could not be fetched .*offline, run PROFILE=bundled") as caught:
        fetch(NAME, revision)
    assert "\n" not in str(caught.value)
    assert not revisions.REVISIONS.exists()
