"""The encoder for several utterances against the one for one; its kernels run in Triton's interpreter on a CPU."""

import pytest
import torch
from torch.nn.attention import SDPBackend

from tests.fused.test_device_decoder import case, plain_tiny_whisper
from tests.tiny_whisper import tiny_features
from whisper_speedup.fused.batch_encoder import BatchEncoder
from whisper_speedup.fused.encoder import Encoder


@torch.inference_mode()
def test_each_utterance_as_by_itself(device: torch.device) -> None:
    model = plain_tiny_whisper(6)
    encoder = Encoder(model, device, torch.float32, pack=False)
    features = torch.cat([tiny_features(seed) for seed in range(3)]).to(device)
    found = BatchEncoder(encoder, [SDPBackend.MATH])(features)
    for one, states in zip(features, found, strict=True):
        torch.testing.assert_close(states, encoder(one[None]), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_nan_stays_with_its_utterance(device: torch.device) -> None:
    model = plain_tiny_whisper(6)
    encoder = Encoder(model, device, torch.float32, pack=False)
    features = torch.cat([tiny_features(0), tiny_features(1) * float("nan")]).to(device)
    found = BatchEncoder(encoder, [SDPBackend.MATH])(features)
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().all())


@pytest.mark.gpu
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@torch.inference_mode()
def test_in_half_precision(device: torch.device, half: torch.dtype) -> None:
    """64 wide heads, so that cuDNN's attention serves it; company changes nothing."""
    model, _ = case(5)
    encoder = Encoder(model, device, half)
    features = torch.cat([tiny_features(seed) for seed in range(8)]).to(device)
    batch = BatchEncoder(encoder)
    found = batch(features)
    for one, states in zip(features, found, strict=True):
        exact = encoder(one[None]).float()
        assert float((states.float() - exact).norm() / exact.norm()) < (0.02 if half == torch.bfloat16 else 0.003)
    assert torch.equal(batch(features.flip(0)).flip(0), found)
