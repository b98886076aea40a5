import json
import pickle
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from tests.checkpoints.folders import CONFIG, write_folder
from whisper_speedup.checkpoints import vocabulary
from whisper_speedup.checkpoints.folder import check, make_once, records, used_files
from whisper_speedup.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "whisper")
    return tmp_path / "whisper"


def test_only_what_transformers_reads_counts(folder: Path) -> None:
    for other in ("optimizer.pt", "pytorch_model.bin", "model.fp32.safetensors", "README.md", "trainer_state.json"):
        (folder / other).write_bytes(b"")
    assert used_files(folder) == [
        "config.json", "generation_config.json", "model.safetensors", "normalizer.json", "preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    for record in records(folder):
        content = (folder / record.name).read_bytes()
        assert record.bytes == len(content)
        assert record.sha256 == sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["config.json"], "config.json missing; copy it from"),
        (["normalizer.json", "generation_config.json"], "generation_config.json, normalizer.json missing; copy them"),
        (["tokenizer.json"], "tokenizer.json or vocab.json with merges.txt missing"),
        (["preprocessor_config.json"], "preprocessor_config.json or processor_config.json missing"),
        (["model.safetensors"], "model.safetensors or model.safetensors.index.json or pytorch_model.bin or"),
    ],
)
def test_missing_files_are_named(folder: Path, names: list[str], sentence: str) -> None:
    for name in names:
        (folder / name).unlink()
    for reader in (used_files, check):
        with pytest.raises(UserError, match=sentence):
            reader(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        check(tmp_path / "nowhere")


def test_parameters_count_tied_weights_once(folder: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    assert check(folder) == sum(value.numel() for value in load_file(folder / "model.safetensors").values())
    assert check(folder) == model.num_parameters()


def test_shards_are_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for shard, keys in shards.items():
        save_file({key: state[key] for key in keys}, folder / shard, metadata={"format": "pt"})
    index = {"weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    expected = check(folder)
    (folder / "model.safetensors").unlink()
    assert check(folder) == expected
    assert set(shards) < set(used_files(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors missing"):
        check(folder)


def test_a_torch_file_of_plain_weights_is_read(folder: Path) -> None:
    expected = check(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert check(folder) == expected
    WhisperForConditionalGeneration.from_pretrained(folder)


class Harm:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (open, (str(self.path), "w"))


def test_a_torch_file_with_code_is_refused_and_not_run(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(folder / "harmed"), protocol=2))
    with pytest.raises(UserError, match=r"pytorch_model.bin is not a torch file of plain weights"):
        check(folder)
    assert not (folder / "harmed").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_weight_file_is_refused(folder: Path, name: str) -> None:
    if name == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    content = (folder / name).read_bytes()
    for size in (0, 4, len(content) // 2, len(content) - 1):
        (folder / name).write_bytes(content[:size])
        with pytest.raises(UserError, match=name):
            check(folder)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"is not a Whisper: its config.json says model_type 'bert'"):
        check(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({**CONFIG, "d_model": 24}, r"has shape \[16.*\], but config.json asks for \[24"),
        ({**CONFIG, "decoder_layers": 2}, "lack model.decoder.layers.1"),
        ({**CONFIG, "d_model": "wide"}, "describes no Whisper"),
        ({**CONFIG, "encoder_attention_heads": 3}, "describes no Whisper"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    folder: Path, config: dict[str, object], sentence: str
) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=sentence) as caught:
        check(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_broken_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config.json (cannot be read|must hold)"):
        check(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "{}"),
        ("generation_config.json", "{"),
        ("preprocessor_config.json", "{"),
        ("normalizer.json", "null"),
    ],
)
def test_a_file_that_transformers_cannot_read_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match="transformers cannot read the configuration in") as caught:
        check(folder)
    assert "\n" not in str(caught.value)


def test_features_that_do_not_fit_the_model_are_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(vocabulary.preprocessor_config(128)))
    with pytest.raises(UserError, match="computes 128 mel bands, but its model takes 8"):
        check(folder)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {"x": 3}}'])
def test_a_broken_index_is_refused(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="must say in weight_map"):
        check(folder)


def test_made_once_until_the_recipe_or_a_file_changes(tmp_path: Path) -> None:
    calls = []

    def make(target: Path) -> None:
        calls.append(target)
        write_folder(target)

    target = tmp_path / "models" / "tiny"
    for _ in range(2):
        make_once(target, {"seed": 1}, make)
    assert len(calls) == 1
    make_once(target, {"seed": 2}, make)
    assert len(calls) == 2
    (target / "config.json").write_text("{}")
    make_once(target, {"seed": 2}, make)
    assert len(calls) == 3
    assert json.loads((target / "config.json").read_text()) == CONFIG
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_a_failed_make_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    make_once(target, {"seed": 1}, lambda folder: write_folder(folder) and None)

    def fail(folder: Path) -> None:
        (folder / "config.json").write_text("half")
        raise UserError("no.")

    with pytest.raises(UserError, match=r"no\."):
        make_once(target, {"seed": 2}, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert check(target) > 0
