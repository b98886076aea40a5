"""CTranslate2's Whisper variables under transformers' names and shapes."""

import re

import numpy as np
import torch

from whisper_speedup.checkpoints.ctranslate2 import Array
from whisper_speedup.errors import UserError

# Settings that the format stores as variables. We check those that change the arithmetic.
SETTINGS = {"decoder/pre_norm": 1, "decoder/scale_embeddings": 0, "decoder/alibi": 0,
            "decoder/start_from_zero_embedding": 0}  # fmt: skip
UNUSED = {"decoder/activation", "decoder/alignment_heads", "decoder/alignment_layer", "decoder/num_heads",
          "encoder/num_heads", "decoder/projection/weight"}  # fmt: skip


def whisper_state_dict(variables: dict[str, Array], source: str) -> dict[str, torch.Tensor]:
    """The state dict of WhisperForConditionalGeneration without `proj_out.weight`, which is the token embedding.

    Linear weights are (out, in) and convolutions (out, in, 3) in both. CTranslate2 stacks query, key and value of a
    self-attention, and key and value of a cross-attention, along the first axis; Whisper's keys have no bias, so that
    slice must be zero. Raises UserError when a variable is missing, left over, or not what Whisper has.
    """
    left = dict(variables)
    state: dict[str, torch.Tensor] = {}

    def fail(problem: str) -> UserError:
        return UserError(f"{source} is not a Whisper model ({problem}): install the package that ships it again.")

    def take(name: str) -> Array:
        if name not in left:
            raise fail(f"{name} is missing")
        return left.pop(name)

    def put(name: str, array: Array) -> None:
        state[f"model.{name}"] = torch.from_numpy(np.array(array))  # a copy: views of the file are read-only

    def linear(theirs: str, *ours: str) -> None:
        weight, bias = take(f"{theirs}/weight"), take(f"{theirs}/bias")
        if not weight.ndim or bias.shape != weight.shape[:1] or len(weight) % len(ours):
            raise fail(f"{theirs} has weights of shape {weight.shape} and biases of shape {bias.shape}")
        for name, rows, values in zip(ours, np.split(weight, len(ours)), np.split(bias, len(ours)), strict=True):
            put(f"{name}.weight", rows)
            if not name.endswith("k_proj"):
                put(f"{name}.bias", values)
            elif values.any():
                raise fail(f"{theirs} gives its keys a bias")

    def norm(theirs: str, ours: str) -> None:
        put(f"{ours}.weight", take(f"{theirs}/gamma"))
        put(f"{ours}.bias", take(f"{theirs}/beta"))

    def layer(theirs: str, ours: str, cross: bool) -> None:
        self_attention = f"{ours}.self_attn"
        linear(f"{theirs}/self_attention/linear_0", *(f"{self_attention}.{x}_proj" for x in "qkv"))
        linear(f"{theirs}/self_attention/linear_1", f"{self_attention}.out_proj")
        norm(f"{theirs}/self_attention/layer_norm", f"{self_attention}_layer_norm")
        if cross:
            attention = f"{ours}.encoder_attn"
            linear(f"{theirs}/attention/linear_0", f"{attention}.q_proj")
            linear(f"{theirs}/attention/linear_1", f"{attention}.k_proj", f"{attention}.v_proj")
            linear(f"{theirs}/attention/linear_2", f"{attention}.out_proj")
            norm(f"{theirs}/attention/layer_norm", f"{attention}_layer_norm")
        linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
        linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
        norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")

    for name, expected in SETTINGS.items():
        if take(name).tolist() != expected:
            raise fail(f"{name} is not {expected}")
    linear("encoder/conv1", "encoder.conv1")
    linear("encoder/conv2", "encoder.conv2")
    for side in ("encoder", "decoder"):
        put(f"{side}.embed_positions.weight", take(f"{side}/position_encodings/encodings"))
        for index in range(layers(variables, side)):
            layer(f"{side}/layer_{index}", f"{side}.layers.{index}", cross=side == "decoder")
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
    put("decoder.embed_tokens.weight", take("decoder/embeddings/weight"))
    unknown = sorted(set(left) - UNUSED)
    if unknown:
        raise fail(f"{unknown[0]} is unknown")
    return state


def layers(variables: dict[str, Array], side: str) -> int:
    """How many layers the encoder or the decoder has."""
    return len({match[1] for name in variables if (match := re.match(rf"{side}/layer_(\d+)/", name))})
