"""Writes CTranslate2 model files, so that tests need no foreign one."""

import struct

import numpy as np
import torch

from whisper_speedup.checkpoints.ctranslate2 import Array

TYPE_IDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def name(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def variable(text: str, array: Array) -> bytes:
    return (
        name(text)
        + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        + struct.pack("<BI", TYPE_IDS[array.dtype.name], array.nbytes)
        + array.tobytes()
    )


def model_bytes(
    variables: dict[str, Array],
    aliases: dict[str, str] | None = None,
    version: int = 6,
    spec: str = "WhisperSpec",
    revision: int = 3,
) -> bytes:
    aliases = aliases or {}
    return b"".join(
        [
            struct.pack("<I", version) + name(spec) + struct.pack("<II", revision, len(variables)),
            *(variable(key, array) for key, array in variables.items()),
            struct.pack("<I", len(aliases)),
            *(name(alias) + name(target) for alias, target in aliases.items()),
        ]
    )


def whisper_variables(state: dict[str, torch.Tensor]) -> dict[str, Array]:
    """A transformers Whisper's state dict as CTranslate2's converter lays it out."""

    def get(key: str) -> Array:
        return np.asarray(state[f"model.{key}"].numpy())

    def linear(key: str, *modules: str) -> dict[str, Array]:
        weights = [get(f"{module}.weight") for module in modules]
        biases = [
            get(f"{module}.bias") if f"model.{module}.bias" in state else np.zeros(len(weight), weight.dtype)
            for module, weight in zip(modules, weights, strict=True)
        ]
        return {f"{key}/weight": np.concatenate(weights), f"{key}/bias": np.concatenate(biases)}

    def norm(key: str, module: str) -> dict[str, Array]:
        return {f"{key}/gamma": get(f"{module}.weight"), f"{key}/beta": get(f"{module}.bias")}

    variables: dict[str, Array] = {
        "decoder/activation": np.array(3, np.int8),
        "decoder/alibi": np.array(0, np.int8),
        "decoder/alignment_heads": np.array(1, np.int16),
        "decoder/alignment_layer": np.array(-1, np.int16),
        "decoder/embeddings/weight": get("decoder.embed_tokens.weight"),
        "decoder/num_heads": np.array(2, np.int16),
        "decoder/pre_norm": np.array(1, np.int8),
        "decoder/scale_embeddings": np.array(0, np.int8),
        "decoder/start_from_zero_embedding": np.array(0, np.int8),
        "encoder/num_heads": np.array(2, np.int16),
    }
    for conv in ("conv1", "conv2"):
        variables |= linear(f"encoder/{conv}", f"encoder.{conv}")
    for side in ("encoder", "decoder"):
        variables[f"{side}/position_encodings/encodings"] = get(f"{side}.embed_positions.weight")
        variables |= norm(f"{side}/layer_norm", f"{side}.layer_norm")
        layer = 0
        while f"model.{side}.layers.{layer}.fc1.weight" in state:
            theirs, ours = f"{side}/layer_{layer}", f"{side}.layers.{layer}"
            query, key, value, out = (f"{ours}.self_attn.{module}_proj" for module in ("q", "k", "v", "out"))
            variables |= linear(f"{theirs}/self_attention/linear_0", query, key, value)
            variables |= linear(f"{theirs}/self_attention/linear_1", out)
            variables |= norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            if side == "decoder":
                query, key, value, out = (f"{ours}.encoder_attn.{module}_proj" for module in ("q", "k", "v", "out"))
                variables |= linear(f"{theirs}/attention/linear_0", query)
                variables |= linear(f"{theirs}/attention/linear_1", key, value)
                variables |= linear(f"{theirs}/attention/linear_2", out)
                variables |= norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            variables |= linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            variables |= linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            variables |= norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            layer += 1
    return variables
