"""Whisper's published sizes with seeded random weights: for timing where the real ones cannot be had.

Their text means nothing. The tokenizer is a stand-in that decodes any id, to words that nobody takes for speech.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from whisper_speedup.checkpoints import vocabulary
from whisper_speedup.checkpoints.sizes import SIZES
from whisper_speedup.disk.files import write_json
from whisper_speedup.disk.progress import track
from whisper_speedup.params.sources import SyntheticSize

# Raised when the weights or files we make change, so that folders made before are made again.
GENERATOR = 1


def config(size: SyntheticSize) -> dict[str, Any]:
    """The content of config.json."""
    shape = SIZES[size]
    return vocabulary.model_config(
        shape.vocab_size, shape.d_model, shape.encoder_layers, shape.decoder_layers, shape.mels,
        vocabulary.LAYOUTS[shape.vocab_size].suppressed,
    )  # fmt: skip


def make(size: SyntheticSize, seed: int, device: torch.device, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    """A model made straight on `device`, in `dtype`: seconds for large-v2 on a GPU, no file read or written.

    Matrices have variance 1/inputs, so that activations keep their size from layer to layer and fit fp16. The same
    seed gives the same weights on the same kind of device.
    """
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config(size))).to(dtype)
    model.to_empty(device=device)
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, parameter in track(list(model.named_parameters()), f"making whisper-{size}", "tensor"):
            # Drawn in fp32: torch's CPU generator loses the tails of the distribution in half precision.
            values = torch.empty(parameter.shape, device=device).normal_(generator=generator)
            values *= parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.02
            parameter.copy_(values + 1 if name.endswith("norm.weight") else values)
    layout = vocabulary.LAYOUTS[SIZES[size].vocab_size]
    model.generation_config = GenerationConfig.from_dict(
        vocabulary.generation_config(layout, layout.suppressed, alignment_heads=None)
    )
    return model.eval()


def recipe(size: SyntheticSize, seed: int) -> dict[str, Any]:
    """What the folder's content depends on."""
    return {"source": "synthetic", "size": size, "seed": seed, "generator": GENERATOR}


def write(size: SyntheticSize, seed: int, target: Path) -> None:
    """Write the model into the existing folder `target`, in fp16. Made on the CPU, whatever the machine has."""
    model = make(size, seed, torch.device("cpu"), torch.float16)
    layout = vocabulary.LAYOUTS[SIZES[size].vocab_size]
    write_json(target / "config.json", config(size))
    write_json(
        target / "generation_config.json", vocabulary.generation_config(layout, layout.suppressed, alignment_heads=None)
    )
    write_json(target / "preprocessor_config.json", vocabulary.preprocessor_config(SIZES[size].mels))
    write_json(target / "tokenizer_config.json", vocabulary.tokenizer_config(layout))
    write_json(target / "tokenizer.json", vocabulary.tokenizer_json(layout, words(layout.text), merges=[]))
    write_json(target / "normalizer.json", {})
    state = {name: value for name, value in model.state_dict().items() if name != "proj_out.weight"}
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


def words(count: int) -> dict[str, int]:
    """A stand-in vocabulary of `count` tokens: the 256 bytes, then a word that spells its id."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = sorted(ByteLevel.alphabet()) + [f"Ġtoken{place}" for place in range(256, count)]
    return {token: place for place, token in enumerate(tokens)}
