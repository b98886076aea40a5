"""Every documented use of `generate`, with and without optimize_model, and what docs/optimize_model.md says of it."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from documented_uses import USES, assert_same
from tiny_whisper import multilingual_whisper

from whisper_speedup import last_path, optimize_model
from whisper_speedup.optimize.public import decoder_path

PAGE = Path(__file__).parents[2] / "docs" / "optimize_model.md"
# "silently": there is nothing to warn of, for the user asked for just that.
PATHS = {"decoder", "whole model", "original", "original, silently"}


def table() -> dict[str, tuple[str, str]]:
    """Each use's path with optimize_model(model.model.decoder) and with optimize_model(model), from the page."""
    rows = re.findall(
        r"^\| ([^|]+) \| `[^`]+` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {use: (decoder, whole) for use, decoder, whole in rows}


def test_the_page_lists_every_use_and_no_other() -> None:
    assert list(table()) == list(USES)
    assert {path for paths in table().values() for path in paths} == PATHS


@pytest.mark.parametrize("seed", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", USES)
def test_same_result_by_the_documented_path(name: str, seed: int) -> None:
    use, model = USES[name], multilingual_whisper(seed)
    torch.manual_seed(seed)
    expected = use(model, seed)
    for whole, documented in zip((False, True), table()[name], strict=True):
        model = multilingual_whisper(seed)
        optimize_model(model if whole else model.model.decoder)
        torch.manual_seed(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = use(model, seed)
        assert_same(expected, found, name)
        counts = decoder_path(model.model.decoder).counts
        said = [str(warning.message) for warning in caught if "whisper_speedup" in str(warning.message)]
        assert len(said) == (documented == "original"), said
        if whole:
            assert last_path(model).path == documented.removesuffix(", silently")
        if documented == "decoder":
            assert counts["decoder"] > 0
            assert counts["original"] == 0
        elif documented.startswith("original"):
            assert counts["decoder"] == 0
            assert counts["original" if documented == "original" else "original, quietly"] > 0
        else:
            assert counts["decoder"] == 0, "the whole-model path does not run the decoder's forward"
