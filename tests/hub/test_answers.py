"""What the hub can answer besides files: for each the stage says one sentence and ends with exit code 2."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants

from tests.hub.client import ROOT
from tests.hub.content import LARGE_V2, LIBRISPEECH
from tests.hub.server import TOKEN, TestHub
from whisper_speedup.cli import main

OFFLINE = "run PROFILE=bundled, which needs no hub, or set HF_HUB_OFFLINE=1 with a filled cache"


class Case(NamedTuple):
    """`happens` to the hub or to this process; the sentence: WHAT stands for the repository, … for anything."""

    name: str
    happens: Callable[[TestHub, pytest.MonkeyPatch], object]
    sentence: str


def gate(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    for repository in hub.repositories.values():
        repository.gated = True


def gate_for_a_stranger(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    gate(hub, patch)
    patch.setenv("HF_TOKEN", "hf_somebody_else")


def forget(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    hub.repositories.clear()


def move(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    """The commit that revisions.json records is not there any more."""
    Path("revisions.json").write_text(f'{{"{LARGE_V2}": "{"a" * 40}", "datasets/{LIBRISPEECH}": "{"a" * 40}"}}')


def lose_files(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    """The listing names files that `resolve` does not find."""
    hub.refuse = lambda method, path: (
        (404, {"X-Error-Code": "EntryNotFound"}) if path.endswith(("config.json", ".parquet")) else None
    )


def answer(status: int, where: str, **headers: str) -> Callable[[TestHub, pytest.MonkeyPatch], None]:
    """Requests to paths that match `where` get this status."""

    def happens(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        hub.refuse = lambda method, path: (status, named) if re.search(where, path) else None

    return happens


def stop(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    hub.stop()


def switch_off(hub: TestHub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


CASES = [
    Case("gated", gate, "the WHAT is gated: accept its terms on the hub and set HF_TOKEN."),
    Case("gated, with a token", gate_for_a_stranger,
         "the WHAT is gated and the account of HF_TOKEN has no access yet: accept its terms on the hub."),
    Case("no such repository", forget,
         "the hub has no WHAT: correct its name in the profile, or, if it is private, set HF_TOKEN."),
    Case("no such revision", move,
         "the WHAT has no such revision: correct it in the profile or revisions.json."),
    Case("a file is missing", lose_files,
         "the WHAT lacks a file that its own listing names (/…): choose another revision."),
    Case("a token that is refused", answer(401, ".", X_Error_Message="Invalid credentials in Authorization header"),
         "the hub refuses the token for the WHAT: correct HF_TOKEN, or unset it for what is public."),
    Case("too many requests for the API", answer(429, "^/api/", Retry_After="120"),
         "the hub limits the rate of requests and refused the WHAT: wait 120 s or set HF_TOKEN, which raises the limit,"
         " and run again; what was fetched is kept."),
    Case("too many requests for files", answer(429, "/resolve/", RateLimit='"resolvers";r=0;t=77'),
         "the hub limits the rate of requests and refused the WHAT: wait 77 s or set HF_TOKEN, …"),
    Case("too many requests, and no word for how long", answer(429, "^/lfs/"),
         "the hub limits the rate of requests and refused the WHAT: wait some minutes or set HF_TOKEN, …"),
    Case("a hub in trouble", answer(503, "^/api/"),
         "the hub failed on the WHAT (status 503): run again in a while; what was fetched is kept."),
    Case("a storage in trouble", answer(500, "^/lfs/"),
         "the hub failed on the WHAT (status 500): run again in a while; what was fetched is kept."),
    Case("a signed address that ran out", answer(403, "^/lfs/"),
         "the hub refused the WHAT (status 403, /lfs/…): check HF_TOKEN and HF_ENDPOINT, and run again."),
    Case("a portal that answers everything itself", answer(200, "."),
         "the WHAT could not be fetched, for the hub at http://… does not answer as a hub (JSONDecodeError): correct"
         f" HF_ENDPOINT or the proxy; offline, {OFFLINE}."),
    Case("nobody listens", stop,
         "the WHAT could not be fetched from the hub at http://… (…refused): go online and run again; offline,"
         f" {OFFLINE}."),
    Case("HF_HUB_OFFLINE and an empty cache", switch_off,
         "the WHAT could not be fetched, for HF_HUB_OFFLINE is set and the cache lacks some of it: unset that once to"
         " fill the cache, or run PROFILE=bundled, which needs no hub."),
]  # fmt: skip


@pytest.mark.parametrize("stage", ["model", "data"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_sentence(
    hub: TestHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], case: Case, stage: str
) -> None:
    shutil.copytree(ROOT / "profiles", "profiles")
    case.happens(hub, monkeypatch)
    with pytest.raises(SystemExit) as stopped:
        main([stage, "--profile", "paper"])
    told = capfd.readouterr().err
    assert stopped.value.code == 2
    assert "Traceback" not in told
    what = f"model {LARGE_V2}" if stage == "model" else f"dataset {LIBRISPEECH}"
    expected = re.escape("error: " + case.sentence.replace("WHAT", what)).replace("…", ".*")
    assert re.fullmatch(expected, told.splitlines()[-1]), told
    assert not Path("build/paper/model.json").exists()
    assert not Path("build/paper/data").exists()


def test_a_token_opens_what_is_gated_and_no_other_host_sees_it(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "profiles", "profiles")
    gate(hub, monkeypatch)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    main(["model", "--profile", "paper"])
    assert any(request.path.startswith("/lfs/") for request in hub.requests)
