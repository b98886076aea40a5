"""Launch configurations: the repository's, the user's, the default, and files that are damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whisper_speedup.fused import launch, launch_cache
from whisper_speedup.fused.launch import LaunchConfig, Tile, config_from, load_launch_config
from whisper_speedup.fused.tuning import plain_config

GPU = "NVIDIA Fake (8 GiB)/Max-Q"
TUNED = LaunchConfig(qkv=Tile(32, 256, 8, 2), cross_shares=12)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and an empty repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(launch, "FOLDER", tmp_path / "shipped")
    return tmp_path


def test_a_gpu_that_nobody_measured_has_the_default() -> None:
    assert load_launch_config(GPU, 384) == LaunchConfig()
    assert load_launch_config(GPU, 384).source == "default"


def test_what_is_kept_is_read_back(folders: Path) -> None:
    assert launch_cache.write(GPU, 384, plain_config(TUNED))
    found = load_launch_config(GPU, 384)
    assert (found, found.source) == (TUNED, "user cache")
    assert load_launch_config(GPU, 512).source == "default"
    assert load_launch_config("NVIDIA Other", 384).source == "default"
    assert [path.name for path in folders.rglob("*") if path.is_file()] == ["NVIDIA-Fake--8-GiB--Max-Q.json"]


def test_widths_and_tritons_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(TUNED, update_warps=8)
    launch_cache.write(GPU, 384, plain_config(TUNED))
    launch_cache.write(GPU, 512, plain_config(other))
    monkeypatch.setattr(launch_cache, "triton_version", lambda: "99.0")
    assert load_launch_config(GPU, 384).source == "default"
    launch_cache.write(GPU, 384, plain_config(other))
    assert load_launch_config(GPU, 384) == other
    assert load_launch_config(GPU, 512).source == "default"


def test_the_repository_comes_first(folders: Path) -> None:
    (folders / "shipped").mkdir()
    shipped = folders / "shipped" / launch_cache.file_name(GPU)
    shipped.write_text(json.dumps({"384": {"cross_shares": 4}}))
    launch_cache.write(GPU, 384, plain_config(TUNED))
    launch_cache.write(GPU, 512, plain_config(TUNED))
    found = load_launch_config(GPU, 384)
    assert (found, found.source) == (LaunchConfig(cross_shares=4), "repository")
    assert load_launch_config(GPU, 512).source == "user cache"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"7", b'{"3.6.0": [1]}'], ids=repr)
def test_a_damaged_file_is_left_aside_with_a_line_and_written_anew(
    content: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_cache, "triton_version", lambda: "3.6.0")
    path = launch_cache.path_of(GPU)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert load_launch_config(GPU, 384).source == "default"
    assert capsys.readouterr().err == f"{path} is left aside: it is damaged\n"
    assert launch_cache.write(GPU, 384, plain_config(TUNED))
    assert load_launch_config(GPU, 384) == TUNED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cross_lanes": 3}, "it has cross_lanes, which this version does not know"),
        ({"cross_shares": "six"}, "its cross_shares is 'six'"),
        ({"cross_shares": None}, "its cross_shares is None"),
        ({"qkv": 3}, "its qkv is no tile"),
        ({"qkv": {"block_n": 16, "block_k": 128, "num_warps": 4}}, "its qkv is no tile"),
        ({"qkv": {"block_n": 16.5, "block_k": 128, "num_warps": 4, "num_stages": 2}}, "its qkv is no tile"),
    ],
    ids=str,
)
def test_an_entry_that_is_no_configuration_is_left_aside(
    change: dict[str, object], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launch_cache.write(GPU, 384, {**plain_config(TUNED), **change})
    launch_cache.write(GPU, 512, plain_config(TUNED))
    assert load_launch_config(GPU, 384).source == "default"
    assert capsys.readouterr().err.endswith(f"is left aside: {why}\n")
    assert load_launch_config(GPU, 512) == TUNED


def test_a_cache_that_cannot_be_written_says_so(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "cache").write_text("a file where a folder should be")
    assert not launch_cache.write(GPU, 384, plain_config(TUNED))
    assert "cannot be written" in capsys.readouterr().err
    assert load_launch_config(GPU, 384).source == "default"


def test_what_ships_is_whole() -> None:
    for path in (Path(launch.__file__).parent / "launch").glob("*.json"):
        for width, values in json.loads(path.read_text()).items():
            assert int(width) > 0
            assert plain_config(config_from(values, "repository")).keys() >= values.keys()
