"""What is on the test hub: a tiny random Whisper in each layout found in the wild, LibriSpeech made of `samples/`."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.hub.server import Repository
from whisper_speedup.checkpoints import synthetic, vocabulary
from whisper_speedup.disk.files import read_jsonl

SAMPLES = Path(__file__).parents[2] / "samples"
LARGE_V2, TINY_EN = "openai/whisper-large-v2", "openai/whisper-tiny.en"
SHARDED, OLD, OLD_SHARDED = "someone/whisper-sharded", "someone/whisper-old", "someone/whisper-old-sharded"
TWO_PRECISIONS = "openai/whisper-large-v3"
LIBRISPEECH, DUMMY = "openslr/librispeech_asr", "hf-internal-testing/librispeech_asr_dummy"
UNREAD = b"nobody may fetch this" * 50

CARD = """---
pretty_name: LibriSpeech
configs:
- config_name: clean
  data_files:
  - split: test
    path: clean/test/*.parquet
  - split: train.100
    path: clean/train.100/*.parquet
- config_name: other
  data_files:
  - split: test
    path: other/test/*.parquet
---
# LibriSpeech
"""
DUMMY_CARD = """---
configs:
- config_name: clean
  data_files:
  - split: validation
    path: clean/validation-*
---
"""

Weights = dict[str, torch.Tensor]


def repositories(clips: int = 3) -> list[Repository]:
    """All of them, the data sets with so many clips."""
    return [*models(), *datasets(clips)]


def models() -> list[Repository]:
    """One repository a layout: the two that the profiles name, and those that people have."""
    settings, weights = tiny_whisper(multilingual=True, seed=0)
    english, english_weights = tiny_whisper(multilingual=False, seed=1)
    v3, v3_weights = tiny_whisper(multilingual=True, seed=2, mels=128)
    others = {"flax_model.msgpack": UNREAD, "tf_model.h5": UNREAD, "README.md": b"# Whisper", ".gitattributes": b"*"}
    old = {name: content for name, content in settings.items() if name != "tokenizer.json"}
    halves = _halves(weights)
    return [
        _model(LARGE_V2, settings, others, {"model.safetensors": _safetensors(weights), "pytorch_model.bin": UNREAD}),
        _model(TINY_EN, english, others,
               {"model.safetensors": _safetensors(english_weights), "pytorch_model.bin": UNREAD}),
        _model(TWO_PRECISIONS, v3, others, {
            "model.safetensors": _safetensors({name: value.half() for name, value in v3_weights.items()}),
            "model.fp32-00001-of-00002.safetensors": UNREAD, "model.fp32-00002-of-00002.safetensors": UNREAD,
            "model.safetensors.index.fp32.json": UNREAD,
        }),
        _model(SHARDED, settings, _shards("model", "safetensors", halves, _safetensors), {"pytorch_model.bin": UNREAD}),
        _model(OLD, old, others, {"pytorch_model.bin": _torch({**weights, "proj_out.weight":
                                                               weights["model.decoder.embed_tokens.weight"]})}),
        _model(OLD_SHARDED, old, others, _shards("pytorch_model", "bin", halves, _torch)),
    ]  # fmt: skip


def datasets(clips: int = 3) -> list[Repository]:
    """LibriSpeech with its test split in two files, and the dummy one, each of the first `clips` samples."""
    middle = (clips + 1) // 2
    files = {
        "README.md": CARD.encode(),
        "clean/test/0000.parquet": parquet(0, middle),
        "clean/test/0001.parquet": parquet(middle, clips),
        "clean/train.100/0000.parquet": UNREAD,
        "other/test/0000.parquet": UNREAD,
    }
    dummy = {"README.md": DUMMY_CARD.encode(), "clean/validation-00000-of-00001.parquet": parquet(0, clips)}
    return [Repository("datasets", LIBRISPEECH, files), Repository("datasets", DUMMY, dummy)]


def parquet(first: int, end: int) -> bytes:
    """Samples `first` to `end` as LibriSpeech's rows: the same columns, types, and metadata for `datasets`."""
    transcripts = read_jsonl(SAMPLES / "transcripts.jsonl")[first:end]
    rows = {
        "file": [f"61-70968-{place:04}.flac" for place in range(first, end)],
        "audio": [{"bytes": (SAMPLES / f"{one['id']}.flac").read_bytes(), "path": f"61-70968-{place:04}.flac"}
                  for place, one in enumerate(transcripts, first)],
        "text": [one["text"].upper() for one in transcripts],
        "speaker_id": [61] * len(transcripts),
        "chapter_id": [70968] * len(transcripts),
        "id": [f"61-70968-{place:04}" for place in range(first, end)],
    }  # fmt: skip
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in ("file", "text", "id")}
    features |= {name: {"dtype": "int64", "_type": "Value"} for name in ("speaker_id", "chapter_id")}
    features["audio"] = {"sampling_rate": 16_000, "_type": "Audio"}
    table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def tiny_whisper(multilingual: bool, seed: int, mels: int = 80) -> tuple[dict[str, bytes], Weights]:
    """The files of a checkpoint but its weights, and the weights: random, for 30 s of audio and 256 text tokens."""
    layout = vocabulary.Layout(text=256, languages=99, multilingual=multilingual)
    vocab_size = max(layout.timestamps.values()) + 1
    text = layout.text
    config = {
        "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "vocab_size": vocab_size,
        "num_mel_bins": mels, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 1500,
        "max_target_positions": 448, "pad_token_id": text, "bos_token_id": text, "eos_token_id": text,
        "decoder_start_token_id": layout.special["<|startoftranscript|>"], "suppress_tokens": layout.suppressed,
        "begin_suppress_tokens": [vocabulary.SPACE, text], "is_encoder_decoder": True, "tie_word_embeddings": True,
    }  # fmt: skip
    words = synthetic.words(text)
    generation = {**vocabulary.generation_config(layout, layout.suppressed, None), "bos_token_id": text}
    contents: dict[str, Any] = {
        "config.json": config,
        "generation_config.json": generation,
        "preprocessor_config.json": vocabulary.preprocessor_config(mels),
        "tokenizer.json": vocabulary.tokenizer_json(layout, words, []),
        "tokenizer_config.json": vocabulary.tokenizer_config(layout),
        "normalizer.json": {},
        "vocab.json": words,
        "added_tokens.json": layout.special,
        "special_tokens_map.json": {"eos_token": vocabulary.END_OF_TEXT, "unk_token": vocabulary.END_OF_TEXT},
    }
    files = {name: json.dumps(content).encode() for name, content in contents.items()}
    files["merges.txt"] = b"#version: 0.2\n"
    torch.manual_seed(seed)
    state = WhisperForConditionalGeneration(WhisperConfig.from_dict(config)).state_dict()
    return files, {name: value for name, value in state.items() if name != "proj_out.weight"}


def _model(name: str, *parts: dict[str, bytes]) -> Repository:
    return Repository("models", name, {file: content for part in parts for file, content in part.items()})


def _safetensors(weights: Weights) -> bytes:
    return save(weights, metadata={"format": "pt"})


def _torch(weights: Weights) -> bytes:
    file = BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def _halves(weights: Weights) -> list[Weights]:
    names = sorted(weights)
    return [{name: weights[name] for name in part} for part in (names[::2], names[1::2])]


def _shards(stem: str, kind: str, parts: list[Weights], write: Any) -> dict[str, bytes]:
    """The parts as files, and the index that says which weight is where."""
    names = [f"{stem}-{number:05}-of-{len(parts):05}.{kind}" for number in range(1, len(parts) + 1)]
    where = {weight: name for name, part in zip(names, parts, strict=True) for weight in part}
    size = sum(value.nbytes for part in parts for value in part.values())
    index = json.dumps({"metadata": {"total_size": size}, "weight_map": where}).encode()
    return {f"{stem}.{kind}.index.json": index,
            **{name: write(part) for name, part in zip(names, parts, strict=True)}}  # fmt: skip
