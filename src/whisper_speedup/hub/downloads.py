"""Files of the hub into the ordinary Hugging Face cache, at a commit, so that an interruption costs nothing.

huggingface_hub 1.33 starts a file again in a new process, whatever was there of it, and compares its size alone. So
large-v2's 6 GB would begin anew after a cut at 99%. Here a file grows at `blobs/ETAG.incomplete`, the next run asks for
the rest of it (HTTP ranges), and what its ETag promises is checked: the SHA-256 of a file in Git LFS, else Git's own
SHA-1. The cache's links are then huggingface_hub's work, which finds the bytes in place.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from whisper_speedup.disk.lock import only_one
from whisper_speedup.disk.progress import Progress
from whisper_speedup.errors import UserError
from whisper_speedup.hub.answers import RepoType, asking

CHUNK = 2**20
RETRIES = 5  # without a step forward in between
WAITS_S = (1, 2, 4, 8, 8)


class Wanted(NamedTuple):
    """A file of a repository: its name there, its bytes, and whether the cache has it."""

    name: str
    size: int
    cached: bool


class _NoBar(tqdm):
    """huggingface_hub's own bars, which know nothing of ours, stay away."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.pop("name", None)
        super().__init__(*arguments, **{**settings, "disable": True})


def wanted(repo_id: str, repo_type: RepoType, commit: str, patterns: Sequence[str]) -> list[Wanted]:
    """The files at `commit` that match one of `patterns`, sorted; nothing is fetched. A cache that has them all is
    enough, else the hub is asked. Raises UserError."""
    from huggingface_hub import snapshot_download

    with asking(repo_id, repo_type):
        found: Any = snapshot_download(
            repo_id, repo_type=repo_type, revision=commit, allow_patterns=list(patterns), dry_run=True,
            tqdm_class=_NoBar,
        )  # fmt: skip
    return sorted(Wanted(one.filename, int(one.file_size or 0), not one.will_download) for one in found)


def fetch(repo_id: str, repo_type: RepoType, commit: str, files: Sequence[Wanted]) -> Path:
    """Bring `files` into the cache; returns the folder that holds them under their names.

    What is there already is not fetched again. Raises UserError, and keeps what has come so far.
    """
    from huggingface_hub import snapshot_download

    missing = [file for file in files if not file.cached]
    with asking(repo_id, repo_type):
        if missing:
            with Progress(f"fetching {repo_id}", sum(file.size for file in missing), "B") as progress:
                for file in missing:
                    _fetch_file(repo_id, repo_type, commit, file, progress)
        folder = snapshot_download(
            repo_id, repo_type=repo_type, revision=commit, allow_patterns=[_literally(file.name) for file in files],
            tqdm_class=_NoBar,
        )  # fmt: skip
    return Path(folder)


def small(repo_id: str, repo_type: RepoType, commit: str, name: str) -> Path | None:
    """One small file in the cache, fetched if need be; None where the repository has none. Raises UserError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with asking(repo_id, repo_type):
        try:
            return Path(hf_hub_download(repo_id, name, repo_type=repo_type, revision=commit, tqdm_class=_NoBar))
        except LocalEntryNotFoundError:  # not fetched, whether there is one or not
            raise
        except EntryNotFoundError:
            return None


def begun(repo_id: str, repo_type: RepoType) -> int:
    """Bytes of files that an interrupted run has fetched in part."""
    parts = _blobs(repo_id, repo_type).glob("*.incomplete")
    return sum(part.stat().st_size for part in parts if part.stem.isalnum())  # others have a dot: nobody goes on there


def cache() -> Path:
    """Where huggingface_hub keeps repositories."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _blobs(repo_id: str, repo_type: RepoType) -> Path:
    return cache() / f"{repo_type}s--{repo_id.replace('/', '--')}" / "blobs"


def _fetch_file(repo_id: str, repo_type: RepoType, commit: str, file: Wanted, progress: Progress) -> None:
    """Complete one file as a blob of the cache."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo_id, file.name, repo_type=repo_type, revision=commit)
    about = get_hf_file_metadata(url, retry_on_errors=True)
    if about.commit_hash != commit:
        raise UserError(
            f"the hub answered for commit {about.commit_hash} of {repo_id} where {commit} was asked for: correct"
            " HF_ENDPOINT, or give that commit as revision in the profile."
        )
    etag = about.etag or ""
    if not etag.isalnum() or about.size is None:
        return  # no hub says so little; huggingface_hub has its own sentence
    folder = _blobs(repo_id, repo_type)
    blob = folder / etag
    with only_one(folder / f".{etag}.lock", f"fetching {file.name} of {repo_id}"):
        if blob.exists():
            progress.found(file.size)
            return
        part = folder / f"{etag}.incomplete"
        _complete(url, part, about.size, progress)
        found = _digest(part, etag)
        if found not in (etag, None):
            part.unlink()
            raise UserError(
                f"{file.name} of {repo_id} did not come as the hub announced it ({found} in place of {etag}):"
                " run again."
            )
        with part.open("rb") as whole:
            os.fsync(whole.fileno())  # before it has its name: a power cut must not leave half a file under it
        part.replace(blob)


def _complete(url: str, part: Path, size: int, progress: Progress) -> None:
    """Let `part` grow to `size` bytes. A connection that breaks is taken up again where it broke."""
    import httpx
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    progress.found(have)
    farthest, failures = have, 0
    while have < size or not part.exists():
        # The address at the hub each time: the one that it leads to is signed, and good for an hour.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with http_stream_backoff(
                "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_exceptions=(),
                follow_redirects=True,
            ) as answer:  # fmt: skip
                hf_raise_for_status(answer)
                if have and answer.status_code != 206:  # the whole file, whatever was asked for
                    progress.advance(-have)
                    have = 0
                with part.open("ab" if have else "wb") as out:
                    for chunk in answer.iter_bytes():  # as they come, for a gathered chunk is lost with the connection
                        out.write(chunk)
                        have += len(chunk)
                        progress.advance(len(chunk))
                        if have > farthest:
                            farthest, failures = have, 0
            if have > size:
                part.unlink()
                raise OSError(f"{size} bytes were announced and {have} came")
            if have < size:
                raise httpx.RemoteProtocolError(f"{size} bytes were announced and the answer ended after {have}")
        except httpx.TransportError:
            failures += 1
            if failures > RETRIES:
                raise
            time.sleep(WAITS_S[failures - 1])


def _digest(path: Path, etag: str) -> str | None:
    """What `etag` should be for this content; None where it is no hash that is known here."""
    if len(etag) == 64:
        digest = hashlib.sha256()
    elif len(etag) == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        return None
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _literally(name: str) -> str:
    """A pattern that matches `name` alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
