"""CTranslate2 on a tiny Whisper converted from its Hugging Face folder: the baseline's tokens, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.checkpoints.folders import CONFIG, write_folder
from tests.engines.test_huggingface import engine, generation
from tests.tiny_whisper import tiny_features
from whisper_speedup.checkpoints import vocabulary
from whisper_speedup.engines import ctranslate2 as peers
from whisper_speedup.engines.ctranslate2 import CTranslate2, CTranslate2Params

CPU = torch.device("cpu")
LAYOUT = vocabulary.Layout(text=256, languages=99, multilingual=True)
EOS = LAYOUT.text
EOS_LOGIT = 6.0
PARAMS = CTranslate2Params()


def whole_folder(folder: Path, seed: int) -> Path:
    """A checkpoint whose model has all of its tokenizer's words, the timestamps included, and can end its texts."""
    write_folder(folder)
    size = max(LAYOUT.timestamps.values()) + 1
    places = {"max_source_positions": 20, "max_target_positions": 64, "d_model": 32}
    config = {**CONFIG, **places, "vocab_size": size, "decoder_start_token_id": EOS + 1, "eos_token_id": EOS}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config))
    with torch.no_grad():
        for parameter in model.model.decoder.parameters():
            parameter.mul_(4.0)
        for layer in (model.model.encoder.conv1, model.model.encoder.conv2):
            layer.weight.mul_(20.0)  # so that the sound is heard beside the positions
        word = model.model.decoder.embed_tokens.weight[EOS]
        model.model.decoder.layer_norm.bias.add_(EOS_LOGIT * word / (word * word).sum())
    state = {name: value for name, value in model.state_dict().items() if name != "proj_out.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    # transformers cuts a text at two timestamps in a row, and trained weights write none after <|notimestamps|>.
    suppressed = [*LAYOUT.suppressed, *LAYOUT.timestamps.values()]
    settings = vocabulary.generation_config(LAYOUT, suppressed, None)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "MODELS", tmp_path / "models")
    return whole_folder(tmp_path / "whisper", 1)


def loaded(folder: Path, name: str = "ctranslate2", **asked: Any) -> CTranslate2:
    pytest.importorskip("ctranslate2")
    peer = CTranslate2(PARAMS, name)
    peer.load(folder, generation(**asked), CPU)
    return peer


@pytest.mark.parametrize("beams", [1, 5])
def test_the_baselines_tokens(folder: Path, beams: int) -> None:
    asked = {"num_beams": beams, "max_length": 12}
    baseline, peer = engine(), loaded(folder, **asked)
    baseline.load(folder, generation(**asked), CPU)
    assert peer.prompt == baseline.prompt == [257, 258, 358, 362]
    different = set()
    for seed in range(8):
        expected, found = baseline.generate(tiny_features(seed)), peer.generate(tiny_features(seed))
        assert (found.tokens, found.truncated) == (expected.tokens, expected.truncated)
        torch.testing.assert_close(found.encoder_states, expected.encoder_states, atol=1e-4, rtol=1e-4)
        assert found.score is not None
        different.add((*found.tokens, round(found.score, 3)))  # the sound is heard
    assert len(different) > 1


@pytest.mark.parametrize("length", [1, 2, 3, 7, 32])
def test_the_length_limit_is_the_baselines(folder: Path, length: int) -> None:
    peer, baseline = loaded(folder, max_length=length), engine()
    baseline.load(folder, generation(max_length=length), CPU)
    peer.arguments["suppress_tokens"].append(EOS)
    baseline.model.generation_config.suppress_tokens.append(EOS)
    found, expected = peer.generate(tiny_features(0)), baseline.generate(tiny_features(0))
    assert len(found.tokens) == len(expected.tokens) == length, (found.tokens, expected.tokens)
    assert found.truncated
    assert expected.truncated
