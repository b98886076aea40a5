from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

from whisper_speedup.checkpoints.synthetic import SIZES, config, make, write
from whisper_speedup.params.sources import SyntheticSize

# Parameters of the published checkpoints, the embedding counted once and the encoder's positions included.
PUBLISHED: dict[SyntheticSize, int] = {
    "tiny": 37_760_640,
    "base": 72_593_920,
    "small": 241_734_912,
    "medium": 763_857_920,
    "large-v2": 1_543_304_960,
    "large-v3": 1_543_490_560,
    "large-v3-turbo": 808_878_080,
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_shapes_are_the_published_ones(size: SyntheticSize) -> None:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config(size)))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[size]


def test_english_only_sizes_have_one_token_less() -> None:
    for size in ("tiny", "base", "small", "medium"):
        assert config(f"{size}.en")["vocab_size"] == config(size)["vocab_size"] - 1
    assert SIZES["large"] == SIZES["large-v2"]


def test_the_seed_decides_the_weights() -> None:
    cpu = torch.device("cpu")
    first, again, other = (make("tiny.en", seed, cpu, torch.float16).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def check_activations(model: WhisperForConditionalGeneration, device: torch.device) -> None:
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0)).to(device, torch.float16)
    tokens = torch.tensor([[50257, 50362, 100, 200]], device=device)
    with torch.no_grad():
        output = model(features, decoder_input_ids=tokens, output_hidden_states=True)
    states = torch.cat(
        [output.encoder_last_hidden_state.flatten(), *(s.flatten() for s in output.decoder_hidden_states)]
    )
    assert states.isfinite().all()
    assert 0.5 < output.encoder_last_hidden_state.float().std() < 2
    assert 0.5 < output.logits.float().std() < 2


def test_activations_keep_their_size_in_half_precision() -> None:
    check_activations(make("tiny.en", 0, torch.device("cpu"), torch.float16), torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_made_on_the_gpu() -> None:
    model = make("tiny.en", 0, torch.device("cuda"), torch.float16)
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight
    check_activations(model, torch.device("cuda"))


def test_the_folder_loads_like_any_other(tmp_path: Path) -> None:
    write("tiny", 7, tmp_path)
    model, loading = WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    made = make("tiny", 7, torch.device("cpu"), torch.float16)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.generation_config.to_dict() == {
        **made.generation_config.to_dict(),
        "_from_model_config": model.generation_config.to_dict().get("_from_model_config"),
    }
    processor = WhisperProcessor.from_pretrained(tmp_path)
    vocabulary = len(processor.tokenizer)
    assert vocabulary == model.config.vocab_size
    assert all(processor.tokenizer.convert_ids_to_tokens(range(vocabulary)))
    text = processor.decode([300, 4567, model.generation_config.eos_token_id], skip_special_tokens=True, normalize=True)
    assert text == "token 300 token 4567"
    features = processor(torch.zeros(16000).numpy(), sampling_rate=16000, return_tensors="pt").input_features
    tokens = model.generate(features.half(), language="en", task="transcribe", num_beams=2, max_length=6)
    assert processor.batch_decode(tokens, skip_special_tokens=True, normalize=True)[0].startswith("token")
