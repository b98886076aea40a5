"""Tiny Whisper folders for tests: the files of a real one, and weights of a few kilobytes."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from whisper_speedup.checkpoints import synthetic, vocabulary

CONFIG: dict[str, Any] = {
    "model_type": "whisper", "vocab_size": 50, "num_mel_bins": 8, "d_model": 16, "encoder_layers": 1,
    "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "max_source_positions": 10, "max_target_positions": 12, "pad_token_id": 1,
    "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2,
    "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip


def write_folder(folder: Path) -> WhisperForConditionalGeneration:
    """A checkpoint that transformers loads. Its tokenizer knows the 256 bytes and the special tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = vocabulary.Layout(text=256, languages=99, multilingual=True)
    contents = {
        "config": CONFIG,
        "generation_config": vocabulary.generation_config(layout, [], None),
        "preprocessor_config": vocabulary.preprocessor_config(CONFIG["num_mel_bins"]),
        "tokenizer": vocabulary.tokenizer_json(layout, synthetic.words(256), []),
        "tokenizer_config": vocabulary.tokenizer_config(layout),
        "normalizer": {},
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict(CONFIG))
    state = {name: value for name, value in model.state_dict().items() if name != "proj_out.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return model
