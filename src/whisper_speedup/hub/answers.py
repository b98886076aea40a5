"""The Hugging Face hub's refusals in plain words, as storage.py has a disk's and device.py a GPU's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from whisper_speedup.disk import storage
from whisper_speedup.errors import UserError, detail

RepoType = Literal["dataset", "model"]
OFFLINE = "run PROFILE=bundled, which needs no hub, or set HF_HUB_OFFLINE=1 with a filled cache"
# What a server that is no hub (a portal that asks for a password, say) makes the client's parsers raise.
NO_HUB = (ValueError, TypeError, KeyError, AttributeError, AssertionError)


@contextmanager
def asking(repo_id: str, repo_type: RepoType) -> Iterator[None]:
    """Within, whatever a request to the hub about this repository ends in leaves as one sentence (UserError)."""
    import httpx

    try:
        yield
    except (OSError, httpx.HTTPError, httpx.InvalidURL, *NO_HUB) as error:
        raise UserError(sentence(repo_id, repo_type, error)) from None


def sentence(repo_id: str, repo_type: RepoType, error: BaseException) -> str:
    """What went wrong when the hub was asked about a repository, and what to do."""
    from huggingface_hub import errors

    what = f"the {repo_type} {repo_id}"
    cause = _cause(error)
    if isinstance(cause, OSError) and (said := storage.failure(cause)):
        return said
    if isinstance(cause, errors.HfHubHTTPError):
        return _refusal(what, cause)
    if isinstance(cause, errors.HFValidationError):
        return f"the hub has no {repo_type} {repo_id}: correct its name in the profile."
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return (
            f"{what} could not be fetched, for HF_HUB_OFFLINE is set and the cache lacks some of it: unset that"
            " once to fill the cache, or run PROFILE=bundled, which needs no hub."
        )
    reason = (detail(cause) or type(cause).__name__).rstrip(".")
    if isinstance(cause, NO_HUB) and not isinstance(cause, OSError):
        return (
            f"{what} could not be fetched, for {_endpoint()} does not answer as a hub ({type(cause).__name__}):"
            f" correct HF_ENDPOINT or the proxy; offline, {OFFLINE}."
        )
    return (
        f"{what} could not be fetched from {_endpoint()} ({reason[:200]}): go online and run again; offline, {OFFLINE}."
    )


def _refusal(what: str, error: BaseException) -> str:
    """The sentence for an answer with a status of 400 or more."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    headers = getattr(response, "headers", {})
    if isinstance(error, errors.GatedRepoError):
        if status == 403:
            return f"{what} is gated and the account of HF_TOKEN has no access yet: accept its terms on the hub."
        return f"{what} is gated: accept its terms on the hub and set HF_TOKEN."
    if isinstance(error, errors.DisabledRepoError):
        return f"{what} was disabled by the hub: choose another one in the profile."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} has no such revision: correct it in the profile or revisions.json."
    if isinstance(error, errors.EntryNotFoundError):
        return f"{what} lacks a file that its own listing names ({_path(response)}): choose another revision."
    if "Invalid credentials" in headers.get("X-Error-Message", ""):
        return f"the hub refuses the token for {what}: correct HF_TOKEN, or unset it for what is public."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no {what.removeprefix('the ')}: correct its name in the profile, or, if it is private, set"
            " HF_TOKEN."
        )
    if status == 429:
        wait = _wait(headers)
        return (
            f"the hub limits the rate of requests and refused {what}: wait{f' {wait} s' if wait else ' some minutes'}"
            " or set HF_TOKEN, which raises the limit, and run again; what was fetched is kept."
        )
    if status >= 500:
        return f"the hub failed on {what} (status {status}): run again in a while; what was fetched is kept."
    return (
        f"the hub refused {what} (status {status}, {_path(response)}): check HF_TOKEN and HF_ENDPOINT, and run again."
    )


def _cause(error: BaseException) -> BaseException:
    """What is behind the client's own exception: it wraps a refusal or a lost connection in "not found locally"."""
    from huggingface_hub import errors

    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _wait(headers: "dict[str, str]") -> str | None:
    """The seconds that the hub asks to wait for, in either way that it says so."""
    if (after := headers.get("Retry-After", "")).isdigit():
        return after
    match = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    return match[1] if match else None


def _path(response: object) -> str:
    url = getattr(getattr(response, "request", None), "url", None)
    return str(getattr(url, "path", "unknown"))


def _endpoint() -> str:
    """The hub, and its address where that is not the usual one."""
    from huggingface_hub import constants

    usual = constants.ENDPOINT == "https://huggingface.co"
    return "the Hugging Face hub" if usual else f"the hub at {constants.ENDPOINT}"
