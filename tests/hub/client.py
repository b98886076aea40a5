"""Point this process, or another, at the test hub."""

import os
from pathlib import Path

import pytest

from tests.hub.server import TestHub

ROOT = Path(__file__).parents[2]
# The hub is a thread of the tests, which on a busy machine may not get its turn within the usual ten seconds.
PATIENCE = {"HF_HUB_DOWNLOAD_TIMEOUT": "600", "HF_HUB_ETAG_TIMEOUT": "600"}


def connect(hub: TestHub, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """This process uses `hub`, caches in `folder`, and waits for nothing between tries."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", int(PATIENCE["HF_HUB_DOWNLOAD_TIMEOUT"]))
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
    patch.delenv("HF_TOKEN", raising=False)
    patch.setattr("time.sleep", lambda seconds: None)


def environment(hub: TestHub, folder: Path) -> dict[str, str]:
    """The environment of another process that uses `hub`, with its caches in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1",
            **PATIENCE, "PYTHONPATH": str(ROOT / "src")}  # fmt: skip
