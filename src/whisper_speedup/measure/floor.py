"""The least that a decode step must read from memory: no engine that keeps 16-bit weights can be faster."""

from collections.abc import Mapping
from typing import Any

BYTES_PER_VALUE = 2  # fp16 or bf16


def layer_matrices(width: int, inner: int) -> int:
    """Numbers in the matrices of a decoder layer that a step reads: self-attention's four, cross-attention's query and
    output, and the feed-forward's two.
    """
    return (6 * width + 2 * inner) * width


def step_bytes(
    config: Mapping[str, Any], bytes_per_value: int = BYTES_PER_VALUE, bytes_per_weight: int | None = None
) -> int:
    """Bytes of one step of one utterance, from config.json: decoder weights, the embedding once, cross-attention.

    The keys and values of cross-attention are counted once: all beams share them. Left out are the projections that
    make them (they run once an utterance) and the keys and values of self-attention (a few tokens).
    `bytes_per_weight`: of the matrices, where it is another; 1 counts weights in 8 bits, without their scales.
    """
    width, layers, inner = config["d_model"], config["decoder_layers"], config["decoder_ffn_dim"]
    matrices = layers * layer_matrices(width, inner) + config["vocab_size"] * width
    biases = layers * (5 * width + inner + width)  # self-attention's key projection has none
    norms = (layers * 3 + 1) * 2 * width
    keys_and_values = layers * 2 * width * config["max_source_positions"]
    return bytes_per_value * (biases + norms + keys_and_values) + (bytes_per_weight or bytes_per_value) * matrices
