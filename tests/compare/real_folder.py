"""A build folder with weights, audio and two runs, small and real, for what needs to hear utterances again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import folders
from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.identity import read_checkpoint
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.disk.files import sha256, write_json, write_jsonl
from whisper_speedup.disk.records import Facts
from whisper_speedup.measure.records import Memory, Reading
from whisper_speedup.params.sources import Folder, Local
from whisper_speedup.run.rows import Conditions, RunRecord

EOS, TIMESTAMPS, PROMPT = 256, 364, [257, 258, 360, 363]  # of folders.write_folder's layout
# Ids of the 256 bytes; the letters of the texts below.
TOKENS = {"ten": [51, 68, 77], "tan": [51, 64, 77]}


def write(root: Path, patch: pytest.MonkeyPatch, outputs: list[tuple[list[int], list[int]]]) -> Path:
    """root/build/example for utterances whose two engines gave these token ids; run from `root`. Returns the folder."""
    import soundfile

    sizes = {"vocab_size": 1865, "max_source_positions": 1500, "max_target_positions": 64}
    for name, value in sizes.items():
        patch.setitem(folders.CONFIG, name, value)
    folders.write_folder(root / "weights")
    build = root / "build" / "example"
    (root / "mine").mkdir()
    for number in range(len(outputs)):
        time = np.arange(16000 * (number + 1)) / 16000
        soundfile.write(root / "mine" / f"{number}.wav", 0.2 * np.sin(2 * np.pi * 300 * (number + 1) * time), 16000)
    manifest.prepare(Folder(source="folder", path="mine"), build / "data")
    write_json(build / "model.json", prepare(Local(source="local", path="weights")).content())
    for place, engine in enumerate(("huggingface", "fused")):
        write_jsonl(build / "runs" / engine / "results.jsonl", [_row(n, o[place]) for n, o in enumerate(outputs)])
        write_json(build / "runs" / engine / "run.json", _about(engine, build))
    return build


def _row(number: int, tokens: list[int]) -> dict[str, Any]:
    text = " ".join(map(str, tokens))
    return {
        "id": str(number), "tokens": tokens, "text": text, "raw_text": text, "score": None, "seconds": [0.1],
        "truncated": False, "error": None,
    }  # fmt: skip


def _about(engine: str, build: Path) -> Facts:
    model = read_checkpoint(build / "model.json")
    return RunRecord(
        engine=engine, profile="example", settings={"precision": "float32"}, prompt=PROMPT, device="cpu",
        device_name="a CPU", dtype="float32", threads=1, load_s=0.1, warmup_s=0.1, decode_s=0.1, environment={},
        memory=Memory(max_reserved=None, process_peak=1), started="2026-11-23T05:00:00+00:00", resumed_from=None,
        conditions=Conditions(before=Reading(), after=Reading()),
        model={"name": "mine"},
        data_sha256=sha256(build / "data" / "manifest.jsonl"),
        weights_sha256=model.weights_sha256,
        model_sha256=model.model_sha256,
        results_sha256=sha256(build / "runs" / engine / "results.jsonl"),
    ).content()  # fmt: skip
