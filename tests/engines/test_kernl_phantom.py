from pathlib import Path

import pytest
import torch

from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.engines.kernl_phantom import KernlPhantom
from whisper_speedup.engines.precision import PrecisionParams
from whisper_speedup.errors import UserError
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.params.profile import GenerationParams

CPU = torch.device("cpu")
GENERATION = GenerationParams(num_beams=3, max_length=20)


def test_it_decodes_a_folder_with_phantom_keys(tmp_path: Path) -> None:
    tiny_whisper(1).save_pretrained(tmp_path)
    engine = KernlPhantom(PrecisionParams())
    engine.load(tmp_path, GENERATION, CPU)
    engine.warm_up(tiny_features(1))
    found = engine.generate(tiny_features(1))
    assert (engine.name, engine.dtype, engine.prompt) == ("kernl_phantom", "float32", [2])
    assert engine.settings == {"precision": "float32", "key_block": 128}
    # 20 source positions: 108 of each 128 keys are phantoms, enough for other tokens.
    right, phantom = (
        FusedWhisper(tiny_whisper(1), engine.model.settings, CPU, torch.float32, block).generate(tiny_features(1))
        for block in (None, 128)
    )
    assert found.tokens == phantom.tokens
    assert found.tokens != right.tokens
    engine.close()


def test_half_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"measure\.kernl_phantom\.precision is half, which needs a GPU"):
        KernlPhantom(PrecisionParams(precision="half")).load(tmp_path, GENERATION, CPU)
