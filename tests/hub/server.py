"""A small hub on this machine: it speaks as much of the Hugging Face hub's protocol as its clients use.

Repositories are dictionaries of bytes with a commit. Answered are: what a repository is (`/api/models/ID`, at a
revision too), its files (`/api/models/ID/tree/REVISION`, in pages) and a file (`/ID/resolve/REVISION/NAME`, HEAD and
GET, with ETag, X-Repo-Commit and ranges). Large files lie at another host, as on the hub: `resolve` names it and says
in X-Linked-Etag and X-Linked-Size what is there. Source: what huggingface_hub asks for and reads.
"""

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet", ".msgpack", ".h5")  # in Git LFS, whatever their size
PAGE = 6  # entries in a page of a listing; the hub has 1000
CHUNK = 2048  # bytes that go out at once, so that a cut can come in the middle of a file
TOKEN = "hf_a_reader"


@dataclass
class Repository:
    """`kind` is models or datasets. `files` may be changed afterwards: then the hub breaks its promise of a commit."""

    kind: str
    name: str
    files: dict[str, bytes]
    gated: bool = False
    commit: str = field(default="", init=False)

    def __post_init__(self) -> None:
        parts = [f"{name} {git_oid(content)}" for name, content in sorted(self.files.items())]
        self.commit = sha1("\n".join([self.kind, self.name, *parts]).encode()).hexdigest()


@dataclass
class Request:
    """One request as it came, and what went out for it: the status, and how many bytes of which file."""

    method: str
    path: str
    range: str | None
    status: int = 0
    sent: int = 0
    file: str = ""


class TestHub:
    """A hub with these repositories, running from the start. `endpoint` is what HF_ENDPOINT must say.

    `refuse(method, path)` may answer in the hub's place: a status and headers, or None. `cut_after` is a number of
    body bytes: when so many have gone out, the server drops all connections and is gone until `start`. So it does after
    `cut_at` requests. After `pause_after` bytes it sets `paused` and waits for `resume`. `garble` changes a byte of
    what goes out, `ranges` is whether it heeds them, `short` the most bytes of an answer, `accept` are commits that it
    takes for its own.
    """

    __test__ = False

    def __init__(self, *repositories: Repository) -> None:
        self.repositories = {(one.kind, one.name): one for one in repositories}
        self.requests: list[Request] = []
        self.refuse: Callable[[str, str], tuple[int, dict[str, str]] | None] = lambda method, path: None
        self.cut_after: int | None = None
        self.cut_at: int | None = None
        self.pause_after: int | None = None
        self.paused, self.resume = threading.Event(), threading.Event()
        self.garble, self.ranges = False, True
        self.short: int | None = None
        self.accept: set[str] = set()
        self.lock, self.switching = threading.Lock(), threading.Lock()
        self.connections: set[socket.socket] = set()
        self.port = 0
        self.server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent(self) -> int:
        """Body bytes of files that have gone out."""
        return sum(request.sent for request in self.requests if request.method == "GET")

    def fetched(self) -> set[str]:
        """The files whose bytes went out."""
        return {one.file for one in self.requests if one.method == "GET" and one.file}

    def start(self) -> None:
        """Listen, at the same port as before."""
        with self.switching:
            self.cut_after = self.cut_at = None
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler(self))
            self.port = self.server.server_port
            threading.Thread(target=self.server.serve_forever, args=(0.005,), daemon=True).start()

    def stop(self) -> None:
        """Drop every connection and listen no more."""
        with self.switching:
            with self.lock:
                server, self.server = self.server, None
                open_now, self.connections = self.connections, set()
            for connection in open_now:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            if server is not None:
                server.shutdown()
                server.server_close()


def handler(hub: TestHub) -> type[BaseHTTPRequestHandler]:
    """The class that answers for `hub`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with hub.lock:
                hub.connections.add(self.connection)

        def handle(self) -> None:
            with suppress(ConnectionError, BrokenPipeError, ValueError, OSError):
                super().handle()

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            split = urlsplit(self.path)
            path, query = unquote(split.path), parse_qs(split.query)
            self.request_seen = Request(self.command, path, self.headers.get("Range"))
            with hub.lock:
                hub.requests.append(self.request_seen)
                gone = hub.server is None or (hub.cut_at is not None and len(hub.requests) > hub.cut_at)
            if gone:
                self.close_connection = True
                hub.stop()
                return
            refusal = hub.refuse(self.command, path)
            if refusal is not None:
                self.reply(refusal[0], b"", refusal[1])
            elif match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                self.about(*match.groups())
            elif match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)", path):
                self.listing(*match.groups(), int(query.get("cursor", ["0"])[0]))
            elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.file("datasets" if match[1] else "models", match[2], match[3], match[4])
            elif match := re.fullmatch(r"/api/resolve-cache/(models|datasets)/([^/]+/[^/]+)/([^/]+)/(.+)", path):
                self.file(*match.groups(), resolved=True)
            elif path.startswith("/lfs/"):
                self.large(path.removeprefix("/lfs/"))
            else:
                self.reply(404, b"")

        def about(self, kind: str, name: str, revision: str | None) -> None:
            if repository := self.find(kind, name, revision):
                content = {
                    "_id": repository.commit[:24], "id": name, "sha": repository.commit, "private": False,
                    "gated": "auto" if repository.gated else False, "tags": [], "downloads": 0,
                    "siblings": [{"rfilename": file} for file in sorted(repository.files)],
                }  # fmt: skip
                self.json(content)

        def listing(self, kind: str, name: str, revision: str, begin: int) -> None:
            if not (repository := self.find(kind, name, revision)):
                return
            folders = {"/".join(file.split("/")[:depth]) for file in repository.files for depth in
                       range(1, file.count("/") + 1)}  # fmt: skip
            entries: list[dict[str, Any]] = [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
                                             for folder in sorted(folders)]  # fmt: skip
            entries += [entry(file, content) for file, content in sorted(repository.files.items())]
            headers = {}
            if begin + PAGE < len(entries):
                next_page = f"{hub.endpoint}{urlsplit(self.path).path}?recursive=True&cursor={begin + PAGE}"
                headers["Link"] = f'<{next_page}>; rel="next"'
            self.json(entries[begin : begin + PAGE], headers)

        def file(self, kind: str, name: str, revision: str, file: str, resolved: bool = False) -> None:
            if not (repository := self.find(kind, name, revision)):
                return
            commit = {"X-Repo-Commit": repository.commit}
            if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(403 if "Authorization" in self.headers else 401, b"", {"X-Error-Code": "GatedRepo"})
            elif file not in repository.files:
                self.reply(404, b"Entry not found", {**commit, "X-Error-Code": "EntryNotFound"})
            elif file.endswith(LARGE):
                content = repository.files[file]
                digest = sha256(content).hexdigest()
                linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
                # Another name of this machine: to a client it is another host, which must not see the token.
                location = f"http://localhost:{hub.port}/lfs/{quote(f'{kind}/{name}/{file}')}"
                self.reply(302, b"", {**commit, **linked, "Location": location})
            elif not resolved:  # small files are one redirect further, at the same host
                location = f"/api/resolve-cache/{kind}/{name}/{repository.commit}/{quote(file)}"
                self.reply(307, b"", {**commit, "Location": location})
            else:
                self.send(repository, file, {**commit, "ETag": f'"{git_oid(repository.files[file])}"'})

        def large(self, place: str) -> None:
            kind, owner, name, file = place.split("/", 3)
            if "Authorization" in self.headers:
                self.reply(400, b"the token of the hub was sent to another host")
            else:
                self.send(hub.repositories[kind, f"{owner}/{name}"], file, {})

        def find(self, kind: str, name: str, revision: str | None) -> Repository | None:
            """The repository, or the hub's refusal and None."""
            repository = hub.repositories.get((kind, name))
            if repository is None:  # the hub does not say whether there is one that a stranger may not see
                self.reply(401, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            elif revision not in {None, "main", repository.commit, *hub.accept}:
                self.reply(404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
                return None
            return repository

        def json(self, content: Any, headers: dict[str, str] | None = None) -> None:
            self.reply(200, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.head(status, len(body), headers or {})
            if self.command == "GET":
                self.wfile.write(body)

        def send(self, repository: Repository, file: str, headers: dict[str, str]) -> None:
            """A file, or the range of it that was asked for, until the hub is to be cut."""
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.ranges else None
            content, self.request_seen.file = repository.files[file], file
            if hub.garble:
                content = content[:-1] + bytes([content[-1] ^ 1])
            if match and int(match[1]) >= len(content):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            body = content
            if match:
                body = content[int(match[1]) :]
                headers["Content-Range"] = f"bytes {match[1]}-{len(content) - 1}/{len(content)}"
            body = body[: hub.short]
            self.head(206 if match else 200, len(body), headers)
            for begin in range(0, len(body) if self.command == "GET" else 0, CHUNK):
                chunk = body[begin : begin + CHUNK]
                if hub.pause_after is not None and hub.sent >= hub.pause_after:
                    hub.paused.set()
                    hub.resume.wait(600)
                with hub.lock:
                    left = None if hub.cut_after is None else hub.cut_after - hub.sent
                if left is not None and left < len(chunk):
                    chunk = chunk[: max(left, 0)]
                    self.wfile.write(chunk)
                    self.request_seen.sent += len(chunk)
                    self.wfile.flush()
                    hub.stop()
                    return
                self.wfile.write(chunk)
                self.request_seen.sent += len(chunk)

        def head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.request_seen.status = status
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is for failures."""

    return Handler


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in a listing."""
    found: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_oid(content)}
    if name.endswith(LARGE):
        found["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return found


def git_oid(content: bytes) -> str:
    """What Git calls these bytes, and the hub in the ETag of a file that is not in LFS."""
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()
