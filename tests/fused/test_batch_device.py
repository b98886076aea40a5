"""Slots with kernels against one utterance at a time: on a CPU every kernel runs in Triton's interpreter."""

import pytest
import torch
from tiny_whisper import tiny_features
from transformers import WhisperForConditionalGeneration

from tests.fused.test_device_decoder import LAUNCH, START, TIE, arguments_of, case, plain_tiny_whisper, shortfall
from whisper_speedup.errors import NotANumberError
from whisper_speedup.fused.batch_decoder import BatchLaunch
from whisper_speedup.fused.batch_device import FEW, DeviceSlots
from whisper_speedup.fused.batch_prefetch import Given
from whisper_speedup.fused.batch_stream import Job, run_stream
from whisper_speedup.fused.beam_search import Hypothesis
from whisper_speedup.fused.device_model import DeviceWhisper
from whisper_speedup.fused.launch import LaunchConfig
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.settings import DecodingSettings, decoding_settings

SMALL = BatchLaunch(cross_shares=2, cross_block=16, candidates_block=64, self_block=8, self_group=2, cross_stages=1)


def slots_of(
    model: WhisperForConditionalGeneration, settings: DecodingSettings, device: torch.device, dtype: torch.dtype,
    slots: int, launch: BatchLaunch = SMALL, graphs: bool = False,
) -> DeviceSlots:  # fmt: skip
    single = LAUNCH if launch is SMALL else LaunchConfig()
    return DeviceSlots(
        DeviceWhisper(model, settings, device, dtype, single, graphs=False), settings, slots, launch, graphs
    )


def decode(slots: DeviceSlots, jobs: list[Job]) -> dict[int, Hypothesis | Exception]:
    frames = slots.whisper.frames
    return {index: outcome for index, outcome, _ in run_stream(slots, Given(jobs), frames, "x", half=False)}


@pytest.mark.parametrize(
    ("beams", "prompt"),
    [
        pytest.param(1, (START,), marks=pytest.mark.slow),
        (2, (START, 3, 4)),
        pytest.param(5, (START, 3, 4, 5), marks=pytest.mark.slow),
    ],
)
def test_five_utterances_through_two_slots(device: torch.device, beams: int, prompt: tuple[int, ...]) -> None:
    """Prompts of one step and of two; long and short ones; one that may be 2 tokens long; one that is not a number."""
    model = plain_tiny_whisper(6)
    settings = decoding_settings(model, arguments_of(beams, 4), [*prompt])
    one = FusedWhisper(model, settings, torch.device("cpu"), torch.float32)
    features = [tiny_features(seed) for seed in range(5)]
    features[1] = features[1] * float("nan")
    limits = [None, None, None, 2, None]
    jobs = [Job(i, each.to(device), limit) for i, (each, limit) in enumerate(zip(features, limits, strict=True))]
    slots = slots_of(model, settings, device, torch.float32, 2)
    found = decode(slots, jobs)
    assert sorted(found) == list(range(5))
    for index in (0, 2, 4):
        best, expected = found[index], one.generate(features[index])
        assert isinstance(best, Hypothesis)
        assert (best.tokens, best.ended) == (expected.tokens, expected.ended)
        assert best.score == pytest.approx(expected.score, abs=1e-4)
    assert isinstance(found[1], NotANumberError)
    assert isinstance(found[3], Hypothesis)
    assert len(found[3].tokens) <= 2


halves = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


@pytest.mark.gpu
@halves
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_graphs_find_what_transformers_finds_in_fp32(device: torch.device, half: torch.dtype, beams: int) -> None:
    model, arguments = case(beams)
    slots = slots_of(model, decoding_settings(model, arguments, [START]), device, half, 12, BatchLaunch(), graphs=True)
    slots.capture()
    found = decode(slots, [Job(seed, tiny_features(seed).to(device)) for seed in range(40)])
    short = []
    for seed in range(40):
        best = found[seed]
        assert isinstance(best, Hypothesis)
        short.append(shortfall(model, tiny_features(seed), arguments, best))
    # A tie that falls the other way early in a search can cost more by its end: with 2 beams and in fp16 one of these
    # does (0.030), compiled and in Triton's interpreter alike, and in fp32 it does not.
    assert sum(one >= TIE[half] for one in short) <= 1, short
    assert max(short) < 2 * TIE[half], short


@pytest.mark.gpu
@halves
def test_company_changes_nothing(device: torch.device, half: torch.dtype) -> None:
    """The same graphs give an utterance the same tokens and score, whatever the other slots hold, in whatever order."""
    model, arguments = case(5)
    slots = slots_of(model, decoding_settings(model, arguments, [START]), device, half, 12, BatchLaunch(), graphs=True)
    slots.capture()
    jobs = [Job(seed, tiny_features(seed).to(device)) for seed in range(30)]
    first, again = decode(slots, jobs), decode(slots, jobs[::-1])
    assert first == again
    assert slots.count > FEW
