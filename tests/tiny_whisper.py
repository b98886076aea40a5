"""Random tiny Whispers for tests: real transformers models, small enough to decode in milliseconds."""

import random
from typing import Any

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration


def tiny_whisper(
    seed: int,
    vocabulary: int = 97,
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
    eos_bias: float = 4.0,
    quantise: float = 0.0,
    timestamps: bool = False,
) -> WhisperForConditionalGeneration:
    """A model whose hypotheses end at odd lengths: `eos_bias` is added to end-of-text's logit.

    `quantise` rounds the logits to multiples of it, which makes exact ties, as fp16 logits do. `timestamps` makes the
    last 20 tokens timestamps, so that some hypotheses hold two in a row.
    """
    torch.manual_seed(seed)
    chance = random.Random(seed)
    eos, start = 1, 2
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=width, encoder_layers=1, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=8,
        max_source_positions=20, max_target_positions=64, pad_token_id=eos, eos_token_id=eos, bos_token_id=eos,
        decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        gain = chance.choice([1.5, 3.0, 6.0])
        for parameter in model.model.decoder.parameters():
            parameter.mul_(gain)
    bias = torch.zeros(vocabulary)
    bias[eos] = eos_bias
    project = model.proj_out.forward

    def logits(states: torch.Tensor) -> torch.Tensor:
        raw = project(states) + bias
        return torch.round(raw / quantise) * quantise if quantise else raw

    model.proj_out.forward = logits
    extra: dict[str, Any] = {"no_timestamps_token_id": vocabulary - 21} if timestamps else {}
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=eos, pad_token_id=eos, bos_token_id=eos, suppress_tokens=[6, 7, 8],
        begin_suppress_tokens=[9, eos], is_multilingual=False, **extra,
    )  # fmt: skip
    return model


def tiny_features(seed: int) -> torch.Tensor:
    """Log-mel features (1, 8, 40) for tiny_whisper."""
    return torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(seed))


def multilingual_whisper(seed: int, **settings: Any) -> WhisperForConditionalGeneration:
    """A tiny Whisper with all that a multilingual checkpoint's generation config names; 97 tokens, plain logits.

    Languages 20 to 22, transcribe 30, translate 31, previous text 72, no speech 74, no timestamps 75, 0.00 s 76.
    """
    model = tiny_whisper(seed, **settings)
    del model.proj_out.forward
    entries = {
        "is_multilingual": True, "lang_to_id": {"<|en|>": 20, "<|fr|>": 21, "<|de|>": 22},
        "task_to_id": {"transcribe": 30, "translate": 31}, "prev_sot_token_id": 72, "no_timestamps_token_id": 75,
        "max_initial_timestamp_index": 10, "alignment_heads": [[0, 1], [1, 2]], "max_length": 14,
    }  # fmt: skip
    for name, value in entries.items():  # update() takes only what the class declares
        setattr(model.generation_config, name, value)
    return model


def varied_whisper(seed: int, **settings: Any) -> WhisperForConditionalGeneration:
    """multilingual_whisper with weights that make its text vary, so that a small change of them shows in it."""
    model = multilingual_whisper(seed, **settings)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=chance) * 2 / parameter.shape[-1] ** 0.5)
    return model
