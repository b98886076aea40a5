"""The graphs themselves, on an NVIDIA GPU (make test-gpu)."""

from typing import Any

import pytest
import torch
from tiny_whisper import multilingual_whisper, tiny_features
from transformers import WhisperForConditionalGeneration

from whisper_speedup import last_path, optimize_model
from whisper_speedup.fused import one_launch
from whisper_speedup.fused.one_launch import OLDEST
from whisper_speedup.optimize import fingerprint, watch
from whisper_speedup.optimize.device_store import DeviceStore
from whisper_speedup.optimize.public import decoder_path, whole_model
from whisper_speedup.optimize.states import store_behind
from whisper_speedup.optimize.torch_store import TorchStore

pytestmark = pytest.mark.gpu
ARGUMENTS: dict[str, Any] = {"language": "en", "task": "transcribe", "max_new_tokens": 20}


def whisper(dtype: torch.dtype = torch.float16) -> WhisperForConditionalGeneration:
    """A random Whisper on the GPU, its heads as wide as real ones; it says many tokens, and in fp16 those of fp32."""
    model = multilingual_whisper(11, width=128, heads=2)
    return model.to("cuda", dtype)


@torch.no_grad()
def states(model: WhisperForConditionalGeneration, rows: int) -> tuple[torch.Tensor, Any]:
    """The same tokens for any model: a prompt, 12 single tokens, a reorder between; all states in fp32, the cache."""
    features = tiny_features(1).to("cuda", model.dtype)
    encoded = model.model.encoder(features).last_hidden_state.repeat_interleave(rows, 0)
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, 60, (1, 4), generator=generator).expand(rows, -1).cuda()
    cache, found = None, []
    for _ in range(13):
        out = model.model.decoder(tokens, encoder_hidden_states=encoded, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out.last_hidden_state.float())
        cache.reorder_cache(torch.randint(0, rows, (rows,), generator=generator).cuda())
        tokens = torch.randint(3, 60, (rows, 1), generator=generator).cuda()
    return torch.cat(found, 1), cache


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_a_replayed_step_is_as_near_to_fp32_as_transformers_own(dtype: torch.dtype, rows: int) -> None:
    torch.set_float32_matmul_precision("highest")
    exact, _ = states(whisper(torch.float32), rows)
    theirs, _ = states(whisper(dtype), rows)
    model = whisper(dtype)
    optimize_model(model.model.decoder)
    for _ in range(2):  # captured, then replayed from the first step on
        ours, cache = states(model, rows)
        store = store_behind(cache)
        assert isinstance(store, DeviceStore)
        assert store.buffers.graph is not None
        assert (ours - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()
        del cache, store
    assert decoder_path(model.model.decoder).counts == {"decoder": 26}
    assert len(decoder_path(model.model.decoder).kernels.buffers) == 1


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 5}, {"num_beams": 8}, {"temperature": 0.7}], ids=str)
def test_generate_again_and_again_gives_the_same(arguments: dict[str, Any]) -> None:
    model = whisper()
    optimize_model(model.model.decoder)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(0)
        features = tiny_features(seed).to("cuda", torch.float16)
        found.append(model.generate(features, **ARGUMENTS, **arguments))
    assert torch.equal(found[0], found[2])
    assert decoder_path(model.model.decoder).counts["original"] == 0


def test_whole_model_and_decoder_agree() -> None:
    model = whisper()
    found = []
    for target in (model.model.decoder, model):
        optimize_model(target)
        for beams in (1, 3):
            for seed in (1, 2):
                features = tiny_features(seed).to("cuda", torch.float16)
                found.append(model.generate(features, num_beams=beams, **ARGUMENTS).tolist())
    assert last_path(model).path == "whole model"
    assert found[:4] == found[4:]
    assert len(set(found[0][0])) > 5


@pytest.mark.parametrize("beams", [1, 3, 5])
def test_one_launch_says_what_the_chain_says(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.get_device_capability()[0] < OLDEST:
        pytest.skip("one launch needs a Hopper GPU or newer")
    found, launched = [], []
    for refuse in (False, True):
        if refuse:
            monkeypatch.setattr(one_launch, "one_launch_or_why", lambda *_: (None, "refused"))
        model = whisper()
        optimize_model(model)
        for seed in (1, 2, 1):
            features = tiny_features(seed).to("cuda", torch.float16)
            found.append(model.generate(features, num_beams=beams, **ARGUMENTS).tolist())
        assert last_path(model).path == "whole model"
        launched += [one.decoder.persistent is not None for one in whole_model(model).runners.values()]
    assert launched == [True, False]
    assert found[:3] == found[3:]
    assert found[0] == found[2]
    assert len(set(found[0][0])) > 5


def test_weights_that_change_are_packed_again_for_one_launch() -> None:
    model, fresh = whisper(), multilingual_whisper(12, width=128, heads=2).to("cuda", torch.float16)
    features = tiny_features(1).to("cuda", torch.float16)
    optimize_model(model)
    model.generate(features, num_beams=5, **ARGUMENTS)
    model.load_state_dict(fresh.state_dict())
    again = model.generate(features, num_beams=5, **ARGUMENTS)
    optimize_model(fresh)
    assert torch.equal(again, fresh.generate(features, num_beams=5, **ARGUMENTS))


def stepped(model: WhisperForConditionalGeneration) -> None:
    """An optimizer's fused kernel, which PyTorch's counters of changes do not see."""
    noise = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=noise).to(parameter)
    torch.optim.AdamW(model.parameters(), lr=0.05, fused=True).step()


def moved(model: WhisperForConditionalGeneration) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(1.25)


@pytest.mark.parametrize("change", [stepped, moved])
@pytest.mark.parametrize("whole", [True, False], ids=["model", "decoder"])
@pytest.mark.parametrize("large", [True, False], ids=["a sample", "everything"])
def test_weights_written_behind_pythons_back(
    change: Any, whole: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setitem(fingerprint.SMALL, "cuda", 0)
        monkeypatch.setattr(watch, "PAUSE_S", float("inf"))
    model, fresh = whisper(), whisper()
    features = [tiny_features(seed).to("cuda", torch.float16) for seed in (1, 2)]
    optimize_model(model if whole else model.model.decoder)
    before = [model.generate(one, num_beams=5, **ARGUMENTS) for one in features]
    change(model)
    found = [model.generate(one, num_beams=5, **ARGUMENTS) for one in features * 2]
    change(fresh)
    optimize_model(fresh if whole else fresh.model.decoder)
    expected = [fresh.generate(one, num_beams=5, **ARGUMENTS) for one in features * 2]
    # The decoder's first utterance ran on in transformers' own loop and half precision: it is judged by the next ones.
    assert all(map(torch.equal, found[0 if whole else 1 :], expected[0 if whole else 1 :]))
    assert not all(map(torch.equal, found, before))
    assert decoder_path(model.model.decoder).counts["original"] <= (0 if whole else 60)


def test_the_notebooks_own_modes_use_the_kernels() -> None:
    """fp32 weights under autocast and inference_mode."""
    model = whisper(torch.float32)
    optimize_model(model.model.decoder)
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16):
        model.generate(tiny_features(1).cuda(), num_beams=5, **ARGUMENTS)
    kernels = decoder_path(model.model.decoder).kernels
    assert kernels.dtype == torch.float16
    assert kernels.buffers[0].graph is not None
    assert decoder_path(model.model.decoder).counts["original"] == 0


@torch.no_grad()
def test_more_utterances_and_fp32_run_in_plain_torch() -> None:
    model = whisper(torch.float32)
    plain = whisper(torch.float32)
    optimize_model(model.model.decoder)
    torch.set_float32_matmul_precision("highest")
    features = torch.cat([tiny_features(seed) for seed in (1, 2, 3)]).cuda()
    assert torch.equal(
        model.generate(features, num_beams=4, **ARGUMENTS), plain.generate(features, num_beams=4, **ARGUMENTS)
    )
    assert decoder_path(model.model.decoder).kernels is None
    assert isinstance(store_behind(states(model, 2)[1]), TorchStore)


def test_an_assistant_model_brings_several_tokens_at_once() -> None:
    model, assistant = whisper(), whisper()
    assistant.generation_config.num_assistant_tokens = 5  # transformers' 20 at once would be more than the kernels take
    optimize_model(model.model.decoder)
    features = tiny_features(1).to("cuda", torch.float16)
    model.generate(features, assistant_model=assistant, **ARGUMENTS)
    assert decoder_path(model.model.decoder).counts["original"] == 0
