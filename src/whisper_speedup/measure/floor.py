"""The least that a decode step must read from memory: no engine that keeps 16-bit weights can be faster."""

from collections.abc import Mapping
from typing import Any

BYTES_PER_VALUE = 2  # fp16 or bf16


def step_bytes(config: Mapping[str, Any], bytes_per_value: int = BYTES_PER_VALUE) -> int:
    """Bytes of one step of one utterance, from config.json: decoder weights, the embedding once, cross-attention.

    The keys and values of cross-attention are counted once: all beams share them. Left out are the projections that
    make them (they run once an utterance) and the keys and values of self-attention (a few tokens).
    """
    width, layers, inner = config["d_model"], config["decoder_layers"], config["decoder_ffn_dim"]
    self_attention = 4 * width * width + 3 * width  # the key projection has no bias
    cross_attention = 2 * (width * width + width)  # query and output
    feed_forward = 2 * width * inner + inner + width
    norms = 3 * 2 * width
    weights = layers * (self_attention + cross_attention + feed_forward + norms) + 2 * width
    vocabulary = config["vocab_size"] * width
    keys_and_values = layers * 2 * width * config["max_source_positions"]
    return bytes_per_value * (weights + vocabulary + keys_and_values)
