"""Whisper's token layout, and the configuration files that follow from it.

A vocabulary is text tokens, then end-of-text, start-of-transcript, the languages, six control tokens and 1501
timestamps. Its size says which of the three published layouts it is: English-only, multilingual with 99 languages, or
with 100 (large-v3 added Cantonese).
"""

from dataclasses import dataclass
from typing import Any

from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI
from transformers.models.whisper.tokenization_whisper import LANGUAGES

CONTROLS = ("translate", "transcribe", "startoflm", "startofprev", "nocaptions", "notimestamps")
TIMESTAMPS = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
SPACE = 220  # the id of " ", the same in both text vocabularies
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Layout:
    """Where the special tokens of one vocabulary are. `text` counts the text tokens, which is end-of-text's id."""

    text: int
    languages: int
    multilingual: bool

    @property
    def special(self) -> dict[str, int]:
        """Every special token but the timestamps, in id order."""
        names = [END_OF_TEXT, "<|startoftranscript|>"]
        names += [f"<|{code}|>" for code in list(LANGUAGES)[: self.languages]]
        names += [f"<|{control}|>" for control in CONTROLS]
        return {name: self.text + place for place, name in enumerate(names)}

    @property
    def timestamps(self) -> dict[str, int]:
        """The 1501 timestamps, <|0.00|> to <|30.00|>, in id order: they come last."""
        begin = self.special["<|notimestamps|>"] + 1
        return {name: begin + place for place, name in enumerate(TIMESTAMPS)}

    @property
    def suppressed(self) -> list[int]:
        """What OpenAI never generates: text that is not speech, and the control tokens."""
        # transformers' lists hold some of the control tokens, and not the same ones as the published checkpoints.
        words = NON_SPEECH_TOKENS_MULTI if self.multilingual else NON_SPEECH_TOKENS
        controls = [self.special[f"<|{name}|>"] for name in CONTROLS if name != "notimestamps"]
        return [*(token for token in words if token < self.text), self.special["<|startoftranscript|>"], *controls]


# Vocabulary size to layout.
LAYOUTS = {
    51864: Layout(text=50256, languages=99, multilingual=False),
    51865: Layout(text=50257, languages=99, multilingual=True),
    51866: Layout(text=50257, languages=100, multilingual=True),
}


def generation_config(layout: Layout, suppressed: list[int], alignment_heads: list[list[int]] | None) -> dict[str, Any]:
    """The content of generation_config.json, as the hub has it for this layout.

    The hub's English-only configurations also force <|notimestamps|> through the deprecated `forced_decoder_ids`;
    transformers puts that token in the prompt anyway, and warns when it finds them, so they are left out there. The
    multilingual ones decide the task when neither language nor task is given, and stay.
    """
    special = layout.special
    start = special["<|startoftranscript|>"]
    config: dict[str, Any] = {
        "begin_suppress_tokens": [SPACE, layout.text],
        "bos_token_id": 50257,
        "decoder_start_token_id": start,
        "eos_token_id": layout.text,
        "is_multilingual": layout.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "pad_token_id": layout.text,
        "prev_sot_token_id": special["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": suppressed,
    }
    if alignment_heads is not None:
        config["alignment_heads"] = alignment_heads
    if layout.multilingual:
        config["forced_decoder_ids"] = [[1, None], [2, special["<|transcribe|>"]]]
        config["lang_to_id"] = dict(list(special.items())[2 : 2 + layout.languages])
        config["task_to_id"] = {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return config


def model_config(
    vocab_size: int, d_model: int, encoder_layers: int, decoder_layers: int, mels: int, suppressed: list[int]
) -> dict[str, Any]:
    """The content of config.json. Whisper's heads are 64 wide and its feed-forward 4 times the model's width.

    Written by hand and not by WhisperConfig, which adds transformers' version: same weights, same bytes.
    """
    layout = LAYOUTS[vocab_size]
    config: dict[str, Any] = {
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "begin_suppress_tokens": [SPACE, layout.text],
        "bos_token_id": 50257,
        "d_model": d_model,
        "decoder_start_token_id": layout.special["<|startoftranscript|>"],
        "dtype": "float16",
        "eos_token_id": layout.text,
        "is_encoder_decoder": True,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "model_type": "whisper",
        "num_mel_bins": mels,
        "pad_token_id": layout.text,
        "scale_embedding": False,
        "suppress_tokens": suppressed,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        config[f"{side}_layers"] = layers
        config[f"{side}_attention_heads"] = d_model // 64
        config[f"{side}_ffn_dim"] = 4 * d_model
    return config


def preprocessor_config(mels: int) -> dict[str, Any]:
    """The content of preprocessor_config.json: 30 s at 16 kHz, windows of 25 ms every 10 ms."""
    return {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels,
        "hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right",
        "padding_value": 0.0, "processor_class": "WhisperProcessor", "return_attention_mask": False,
        "sampling_rate": 16000,
    }  # fmt: skip


def tokenizer_config(layout: Layout) -> dict[str, Any]:
    """The content of tokenizer_config.json.

    The hub's asks to clean up spaces; transformers 5 ignores that for Whisper, with a warning, so ours does not.
    """
    return {
        "add_prefix_space": False, "additional_special_tokens": list(layout.special), "bos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False, "eos_token": END_OF_TEXT, "errors": "replace", "model_max_length": 1024,
        "pad_token": END_OF_TEXT, "processor_class": "WhisperProcessor", "return_attention_mask": False,
        "tokenizer_class": "WhisperTokenizer", "unk_token": END_OF_TEXT,
    }  # fmt: skip


def tokenizer_json(layout: Layout, vocab: dict[str, int], merges: list[Any]) -> dict[str, Any]:
    """The content of tokenizer.json: byte-level BPE over `vocab` and `merges`, and the tokens added to it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [{"id": token, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": not special, "special": special}
             for names, special in ((layout.special, True), (layout.timestamps, False))
             for name, token in names.items()]  # fmt: skip
    start, plain = "<|startoftranscript|>", "<|notimestamps|>"
    template = [{"SpecialToken": {"id": start, "type_id": 0}}, {"SpecialToken": {"id": plain, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*template, {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}],
            "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": END_OF_TEXT, "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [layout.special[name]], "tokens": [name]}
                               for name in (END_OF_TEXT, start, plain)},
        },
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab, "merges": merges},
    }  # fmt: skip
