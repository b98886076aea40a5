"""Functions that somebody puts into transformers' or PyTorch's own classes change optimised models as all others."""

from typing import Any

import pytest
import torch
from tiny_whisper import tiny_features, varied_whisper
from transformers import WhisperForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

from whisper_speedup import last_path, optimize_model
from whisper_speedup.optimize import patched


def mean_attention(module: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return value.mean(2, keepdim=True).expand(query.shape).transpose(1, 2), None


def registered(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(type(ALL_ATTENTION_FUNCTIONS)._global_mapping, "sdpa", mean_attention)


def in_torch(patch: pytest.MonkeyPatch) -> None:
    theirs = torch.nn.functional.scaled_dot_product_attention
    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: -theirs(*a, **k))


def called(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.nn.LayerNorm, "__call__", lambda self, states: torch.nn.Module.__call__(self, states) * 2)


def layer_forward(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WhisperDecoderLayer, "forward", lambda self, states, *a, **k: states * 1.5)


def generating(patch: pytest.MonkeyPatch) -> None:
    theirs = WhisperForConditionalGeneration.generate
    patch.setattr(WhisperForConditionalGeneration, "generate", lambda self, *a, **k: theirs(self, *a, **k)[:, :3])


def prompting(patch: pytest.MonkeyPatch) -> None:
    prompt = torch.tensor([[2, 22, 31]])
    patch.setattr(WhisperForConditionalGeneration, "_retrieve_init_tokens", lambda *a, **k: prompt)


@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["model", "decoder"])
@pytest.mark.parametrize("change", [registered, in_torch, called, layer_forward, generating, prompting])
def test_what_somebody_replaces_for_all_models_counts(
    change: Any, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ours = varied_whisper(3), varied_whisper(3)
    optimize_model(ours if whole else ours.model.decoder)

    def both() -> list[Any]:
        found = [model.generate(tiny_features(7), language="en", num_beams=2).tolist() for model in (plain, ours)]
        assert found[0] == found[1]
        return found[0]

    before = both()
    with monkeypatch.context() as patch:
        change(patch)
        assert both() != before
    assert both() == before
    if whole:
        assert last_path(ours).path == "whole model"


def test_what_was_replaced_before_we_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patched.BEFORE == []
    monkeypatch.setattr(patched, "BEFORE", ["eager attention"])
    assert patched.why_patched() == "something replaced eager attention"
