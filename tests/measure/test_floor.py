import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from whisper_speedup.measure import bandwidth, floor


@pytest.mark.parametrize("vocabulary", [97, 51865])
def test_a_step_reads_the_decoder_but_not_what_an_utterance_reads_once(vocabulary: int) -> None:
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=32, encoder_layers=1, decoder_layers=3, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=96, max_source_positions=20,
        max_target_positions=64, pad_token_id=1, bos_token_id=1, eos_token_id=1, decoder_start_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        decoder = WhisperForConditionalGeneration(config).model.decoder
    once = ("embed_positions", "encoder_attn.k_proj", "encoder_attn.v_proj")
    values = sum(p.numel() for name, p in decoder.named_parameters() if not any(part in name for part in once))
    values += 3 * 2 * 32 * 20  # cross-attention's keys and values
    assert floor.step_bytes(config.to_dict()) == 2 * values
    assert floor.step_bytes(config.to_dict(), bytes_per_value=4) == 4 * values
    matrices = sum(
        p.numel() for name, p in decoder.named_parameters() if p.ndim == 2 and not any(part in name for part in once)
    )
    assert floor.step_bytes(config.to_dict(), bytes_per_weight=1) == 2 * (values - matrices) + matrices


def test_large_v2_is_the_1_85_gigabytes_of_the_design() -> None:
    large = {
        "d_model": 1280, "decoder_layers": 32, "decoder_ffn_dim": 5120, "vocab_size": 51865,
        "max_source_positions": 1500,
    }  # fmt: skip
    assert floor.step_bytes(large) == pytest.approx(1.85e9, rel=0.01)


def test_the_bandwidth_of_a_cpu_is_a_read_of_all_values() -> None:
    found = bandwidth.read_bandwidth(size_bytes=2**24, repeats=3)
    assert 1e8 < found < 1e13  # bytes a second: any machine that runs this


def test_a_gpu_is_measured_by_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(bandwidth, "copy_bandwidth", lambda device, size: asked.append((device.type, size)) or 3e12)
    assert bandwidth.memory_bandwidth(torch.device("cuda")) == 3e12
    assert asked == [("cuda", 2**28)]
