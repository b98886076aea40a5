"""The rules of SECURITY.md that a reader of the source can check, checked on every line of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from whisper_speedup.audio import librispeech
from whisper_speedup.audio.folder import MAX_TEXT_BYTES
from whisper_speedup.checkpoints import folder as checkpoint

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """(where, call, name as it is written) of every call in the source."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node, ast.unparse(node.func)


def option(call: ast.Call, name: str) -> str | None:
    """A keyword argument as it is written."""
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 100
    assert sum(name.endswith("from_pretrained") for _, _, name in calls()) >= 8


def test_no_checkpoint_brings_code() -> None:
    for where, call, name in calls():
        assert option(call, "trust_remote_code") in (None, "False"), where
        assert not re.search(r"\bAuto(Model|Tokenizer|Config|Processor|FeatureExtractor)", name), where
        if name == "torch.load":
            assert option(call, "weights_only") == "True", where
        if name == "WhisperForConditionalGeneration.from_pretrained":
            safe = option(call, "weights_only") == "True" or option(call, "use_safetensors") == "True"
            assert safe, where


def test_nothing_is_evaluated_unpickled_or_given_to_a_shell() -> None:
    forbidden = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load", "marshal.loads"}
    for where, call, name in calls():
        assert name not in forbidden, where
        assert option(call, "shell") in (None, "False"), where
        assert option(call, "allow_pickle") in (None, "False"), where


def test_no_archive_is_unpacked() -> None:
    """Then no member of one can leave its folder: what packs files here are Parquet, safetensors and torch's own."""
    for path in SOURCES:
        imported = re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not {"tarfile", "zipfile", "gzip", "bz2", "lzma", "pickle", "shelve"} & set(imported), path


def test_every_request_to_the_hub_names_a_commit() -> None:
    asked = [(where, call) for where, call, name in calls() if name in ("snapshot_download", "hf_hub_download")]
    assert len(asked) == 4
    for where, call in asked:
        assert option(call, "revision") == "commit", where


def test_only_our_own_markup_is_put_into_the_page_as_it_is() -> None:
    """The stylesheet, the script, and drawings whose texts pass through an escaping writer."""
    page = ROOT / "src" / "whisper_speedup" / "report" / "page"
    raw = {
        found for path in page.glob("*.html") for found in re.findall(r"\{\{([^}]*)\|\s*safe\s*\}\}", path.read_text())
    }
    assert {found.strip() for found in raw} == {"css", "script", "bar", "drawing.svg", "throughput.drawing.svg"}
    assert "autoescape=True" in (page.parent / "render.py").read_text()
    for where, _, name in calls():
        assert name.split(".")[-1] != "Markup", where


@pytest.mark.parametrize("shard", ["../x", "/etc/passwd", "a/b", "", ".", ".."])
def test_shards_stay_in_their_folder(tmp_path: Path, shard: str) -> None:
    import json

    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}))
    with pytest.raises(checkpoint.UserError, match="which is not in its own folder"):
        checkpoint._shards(index)


@pytest.mark.parametrize("pattern", ["../*.parquet", "/etc/*", "a/../../b", 3])
def test_a_data_sets_files_stay_in_their_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: object
) -> None:
    from whisper_speedup.errors import UserError
    from whisper_speedup.params.sources import LibriSpeech

    monkeypatch.setattr(librispeech, "_patterns", lambda data, commit: [pattern])
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *arguments, **options: str(tmp_path))
    data = LibriSpeech(source="librispeech", dataset="a/b", config="c", split="s")
    with pytest.raises(UserError, match="names files outside its repository"):
        librispeech._fetch(data, "0" * 40)


def test_a_transcript_is_not_read_whatever_its_size(tmp_path: Path) -> None:
    from whisper_speedup.audio.folder import open_folder
    from whisper_speedup.errors import UserError
    from whisper_speedup.params.sources import Folder

    (tmp_path / "a.wav").touch()
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)  # takes no room on the disk
    with pytest.raises(UserError, match="is larger than 64 MiB, which is no transcript"):
        open_folder(Folder(source="folder", path=str(tmp_path)))
