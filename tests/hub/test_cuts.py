"""The hub is cut off at several points while data and model are fetched: nothing is lost, and a rerun completes."""

import random
import shutil
from pathlib import Path

import pytest

from tests.hub.client import ROOT
from tests.hub.server import TestHub
from whisper_speedup.cli import main

SEED, IN_FILES, BETWEEN_FILES = 9, 3, 2
STAGES = ("data", "model")


def stages() -> list[int]:
    """Run both as `dvc repro` would: the second only after the first. Returns their exit codes."""
    for stage in STAGES:
        try:
            main([stage, "--profile", "paper"])
        except SystemExit as stopped:
            return [int(stopped.code or 0)]
    return [0, 0]


def made(folder: Path) -> dict[str, bytes]:
    """What the stages wrote, and the cache's files under their own names."""
    found = {str(path.relative_to(folder)): path.read_bytes()
             for path in sorted(folder.glob("build/paper/**/*")) if path.is_file()}  # fmt: skip
    # It names the place of the weights, which is this test's own.
    text = found["build/paper/model.json"].decode().replace(str(folder.parent), "")
    found["build/paper/model.json"] = text.encode()
    cache = folder.parent / "cache" / "hub"
    found |= {str(path.relative_to(cache)): path.read_bytes() for path in cache.glob("*/snapshots/*/**/*")
              if path.is_file()}  # fmt: skip
    return found


def test_cut_anywhere_nothing_is_lost(
    hub: TestHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "profiles", "profiles")
    assert stages() == [0, 0]
    expected, whole = made(Path.cwd()), hub.sent
    fresh(hub, tmp_path)
    assert stages() == [0, 0]  # with the commits known, as from now on
    chance = random.Random(SEED)
    # In the bytes of a file, and between files: before the hub's answer to a request.
    points = [("cut_after", point) for point in sorted(chance.sample(range(whole), IN_FILES))]
    points += [("cut_at", point) for point in sorted(chance.sample(range(len(hub.requests)), BETWEEN_FILES))]

    # Each point alone, in fresh caches: one cut, one rerun.
    for kind, point in points:
        fresh(hub, tmp_path)
        setattr(hub, kind, point)
        assert stages()[-1] == 2, (kind, point)
        assert hub.server is None, "the hub was not cut"
        sentence = capfd.readouterr().err.splitlines()[-1]
        assert sentence.startswith("error: the ")
        assert "could not be fetched" in sentence
        assert kind == "cut_at" or hub.sent == point
        hub.start()
        assert stages() == [0, 0]
        assert hub.sent == whole, "a byte was fetched twice"
        assert made(Path.cwd()) == expected
        assert not list((tmp_path / "cache").rglob("*.incomplete"))

    # Those in files one after the other, in one fresh cache.
    fresh(hub, tmp_path)
    for _, point in points[:IN_FILES]:
        hub.cut_after = point
        assert stages()[-1] == 2
        hub.start()
    assert stages() == [0, 0]
    assert hub.sent == whole
    assert made(Path.cwd()) == expected


def fresh(hub: TestHub, tmp_path: Path) -> None:
    """Empty caches, as on another machine; the recorded commits stay, as Git keeps them."""
    from huggingface_hub import _tree_cache

    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree("build")
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    hub.requests.clear()
