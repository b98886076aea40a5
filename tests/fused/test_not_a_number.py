"""NaN in the encoder's weights reaches an error on every path: the kernels, plain torch, and transformers."""

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.engines.huggingface import BaselineParams, HuggingFace, prompt_tokens
from whisper_speedup.errors import NotANumberError
from whisper_speedup.fused.device_model import DeviceWhisper
from whisper_speedup.fused.launch import LaunchConfig, Tile
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.kernels.beam_state import BeamState
from whisper_speedup.kernels.beam_update import beam_update, read_hypothesis
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.params.profile import GenerationParams

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SMALL = Tile(16, 32, 4, 1)
LAUNCH = LaunchConfig(
    qkv=SMALL, out=SMALL, query=SMALL, fc1=SMALL, fc2=SMALL, vocabulary=Tile(32, 32, 4, 1), cross_shares=2
)


def poisoned(eos_bias: float = 4.0) -> WhisperForConditionalGeneration:
    """A tiny Whisper with one NaN among its encoder's weights."""
    model = tiny_whisper(5, eos_bias=eos_bias)
    with torch.no_grad():
        model.model.encoder.layers[0].fc1.weight[3, 3] = float("nan")
    return model


def generation(num_beams: int) -> GenerationParams:
    return GenerationParams(num_beams=num_beams, max_length=6)


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in Triton's interpreter
def test_the_kernels_notice(beams: int) -> None:
    model = poisoned(eos_bias=0.0)
    del model.proj_out.forward  # the end-of-text bias, which the kernels do not know
    arguments = {"num_beams": beams, "do_sample": False, "min_length": 1, "max_length": 6}
    settings = decoding_settings(model, arguments, prompt_tokens(model, arguments))
    whisper = DeviceWhisper(model, settings, DEVICE, torch.float32, LAUNCH, graphs=False)
    with pytest.raises(NotANumberError, match=r"is not a number for this clip \(in fp32\)"):
        whisper.generate(tiny_features(1).to(DEVICE))
    state = whisper.decoder.state
    assert int(state.done) == 1
    assert int(state.length) == len(settings.prompt) + 1, "the search ends with the first step"
    assert bool(state.finished_scores[0].isnan())


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_in_one_beam_beats_a_finished_hypothesis(early: bool | str) -> None:
    """What is finished may not hide that a later step overflowed, whatever order the stores take."""
    beams, size, tile = 2, 32, 16
    state = BeamState(16, DEVICE)
    state.reset(3)
    state.length.fill_(5)
    state.scores[:beams] = torch.tensor([-1.0, -2.0], device=DEVICE)
    state.finished_scores[0], state.finished_lengths[0] = -0.5, 2
    peak, norm = (torch.ones(size // tile, ROWS, device=DEVICE) for _ in range(2))
    norm[1, 1] = float("nan")  # the second beam's, in the second tile
    # Each tile's first tokens, all with logit 1: as vocabulary.py packs them, the lower token first.
    tokens = torch.arange(size, device=DEVICE).view(-1, 1, tile)[:, :, : 2 * beams].expand(-1, ROWS, -1)
    candidates = (int(torch.tensor(1.0).view(torch.int32)) << 32) | (0x7FFFFFFF - tokens)
    beam_update(state, peak, norm, candidates.contiguous(), beams, beams, size, 3, 10, size - 1, 1.0, early, 4)
    assert int(state.done) == int(state.host_done) == 1
    assert not read_hypothesis(state)[1] > -1.0e8


@pytest.mark.parametrize("beams", [1, 3])
def test_plain_torch_notices(beams: int) -> None:
    engine = Fused(FusedParams(precision="float32", tune="never"))
    engine.use(poisoned(), generation(beams), CPU)
    with pytest.raises(NotANumberError, match="check the clip and the weights"):
        engine.generate(tiny_features(1))
    with pytest.raises(NotANumberError):
        engine.warm_up(tiny_features(1))


@pytest.mark.parametrize("beams", [1, 3])
def test_transformers_does_not_and_its_encoder_states_show_it(beams: int) -> None:
    params = BaselineParams()
    states = []
    for model in (poisoned(), tiny_whisper(5)):
        engine = HuggingFace(params)
        engine.use(model, generation(beams), CPU)
        engine.warm_up(tiny_features(1))
        found = engine.generate(tiny_features(1)).encoder_states
        assert found is not None
        assert engine.encoder_states is None, "nothing is held between utterances"
        engine.close()
        states.append(bool(found.isfinite().all()))
    assert states == [False, True]
