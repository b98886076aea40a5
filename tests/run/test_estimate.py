"""What a profile needs before it starts, in bytes and words, and the refusal of a disk that is too small."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.hub.client import ROOT
from tests.hub.content import LARGE_V2, LIBRISPEECH, TINY_EN
from tests.hub.server import TestHub
from whisper_speedup.audio.manifest import prepare as prepare_data
from whisper_speedup.checkpoints.prepare import prepare as prepare_model
from whisper_speedup.checkpoints.sizes import SIZES
from whisper_speedup.cli import main
from whisper_speedup.errors import UserError
from whisper_speedup.hub import downloads
from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.params.engines import engine_names
from whisper_speedup.params.profile import BASELINE, Profile
from whisper_speedup.run import estimate as module
from whisper_speedup.run.estimate import Estimate, check_disk, estimate

Usage = namedtuple("Usage", "total used free")


def profile(name: str, **changes: Any) -> Profile:
    content = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
    content["measure"] = {**content.get("measure", {}), "device": "cpu"}
    return Profile.model_validate({**content, **changes})


def needs(found: Estimate) -> dict[str, int | None]:
    return {need.what: need.size for need in found.needs}


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Every disk has so many bytes left."""
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - count, count))


def test_the_hub_s_own_listing_says_what_is_fetched(hub: TestHub) -> None:
    model, data = (hub.repositories[key].files for key in (("models", LARGE_V2), ("datasets", LIBRISPEECH)))
    speech = sum(len(data[f"clean/test/000{n}.parquet"]) for n in (0, 1))
    weights = sum(len(content) for name, content in model.items()
                  if name.endswith((".json", ".txt")) or name == "model.safetensors")  # fmt: skip
    found = estimate(profile("paper"), "paper", ["fused"])
    assert needs(found) == {LARGE_V2: weights, LIBRISPEECH: speech, "its rows as datasets keeps them": speech,
                            "speech twice": 2 * speech}  # fmt: skip
    assert hub.fetched() == {"README.md", "config.json"}
    text = str(found)
    assert text.startswith("paper needs, beyond what is here:\n  download  about ")
    assert "unknown: reports/paper/ holds no run of paper" in text


def test_what_is_here_is_not_needed_again(hub: TestHub) -> None:
    paper = profile("paper")
    hub.cut_after = 100_000
    with pytest.raises(UserError):
        prepare_model(paper.model)
    hub.start()
    begun = downloads.begun(LARGE_V2, "model")
    assert begun > 0
    before = estimate(paper, "paper", ["fused"])
    sent = hub.sent
    prepare_model(paper.model)
    assert needs(before)[LARGE_V2] == hub.sent - sent
    prepare_data(paper.data, Path("build/paper/data"))
    hub.stop()
    found = estimate(paper, "paper", ["fused"])
    assert found.needs == []
    assert "download  nothing\n  disk      next to nothing\n" in str(found)


def test_a_published_size_where_the_hub_cannot_be_asked(hub: TestHub) -> None:
    hub.stop()
    found = estimate(profile("paper"), "paper", ["fused"])
    assert needs(found)[LARGE_V2] == 4 * SIZES["large-v2"].parameters
    assert needs(found)[LIBRISPEECH] is None
    assert "more than 6.2 GB" in str(found)
    assert "(openai/whisper-large-v2 about 6.2 GB by the published shape, for the model" in str(found)
    assert "at least 12.3 GB of memory for the weights while the rounds hold all engines" in found.memory
    turbo = profile("paper", model={"source": "hub", "id": "openai/whisper-large-v3-turbo", "revision": None})
    assert needs(estimate(turbo, "paper", []))["openai/whisper-large-v3-turbo"] == (
        2 * SIZES["large-v3-turbo"].parameters
    )
    other = profile("paper", model={"source": "hub", "id": "someone/whisper-sharded", "revision": None})
    found = estimate(other, "paper", [])
    assert needs(found)["someone/whisper-sharded"] is None
    assert found.memory == "unknown, for the model's shape is"


def test_bundled_weights_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "samples", "samples")
    found = estimate(profile("bundled"), "bundled", ["fused"])
    speech = "speech twice, at most"
    assert needs(found) == {"weights": 2 * SIZES["tiny.en"].parameters, speech: 2 * 13 * 960_000}
    assert "download  nothing" in str(found)
    (tmp_path / "build" / "models" / "bundled-tiny.en").mkdir(parents=True)
    variations = {"noise_snr_db": [20, 10], "speeds": [0.9], "seed": 0}
    data = {"source": "samples", "clips": ["cards-001"], "variations": variations}
    assert needs(estimate(profile("bundled", data=data), "bundled", ["fused"])) == {speech: 2 * 4 * 960_000}


def test_synthetic_and_local_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: TestHub) -> None:
    monkeypatch.chdir(ROOT)
    synthetic = profile("bundled", model={"source": "synthetic", "size": "small", "seed": 3})
    assert needs(estimate(synthetic, "x", [], tmp_path))["weights"] == 2 * SIZES["small"].parameters
    folder = tmp_path / "whisper"
    folder.mkdir()
    local = profile("bundled", model={"source": "local", "path": str(folder)})
    assert estimate(local, "x", [], tmp_path).memory.startswith("unknown")
    (folder / "config.json").write_bytes(hub.repositories["models", TINY_EN].files["config.json"])
    found = estimate(local, "x", [], tmp_path)
    assert "weights" not in needs(found)
    assert found.memory.startswith("at least ")


def test_memory_follows_the_precisions_and_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: namedtuple("M", "total")(10**8))
    count = SIZES["tiny.en"].parameters
    engines = ["fused", "kernl_upstream", "ctranslate2_int8", "ladder.low"]
    both = profile("bundled")
    found = estimate(both, "bundled", engines, tmp_path).memory
    assert found.startswith(f"at least {module.size((4 + 4 + 6 + 1 + 4) * count)} of memory")
    assert found.endswith("; this machine has 100.0 MB, which is too little")
    found = estimate(both, "bundled", ["fused_int8", "fused_fp8"], tmp_path).memory  # which a CPU reads as fp32
    assert found.startswith(f"at least {module.size((4 + 4 + 4) * count)} of memory")
    alone = profile("bundled", measure={**both.measure.model_dump(), "rounds": None, "device": "cpu"})
    assert estimate(alone, "bundled", ["fused"], tmp_path).memory.startswith(f"at least {module.size(4 * count)} of")
    content = profile("synthetic-large").model_dump()
    large = Profile.model_validate({**content, "measure": {**content["measure"], "device": "cuda"}})
    eight = module.size(SIZES["large-v2"].parameters * 3 // 2)
    assert f"fused_int8 {eight}, fused_fp8 {eight}" in estimate(large, "large", ["fused_int8", "fused_fp8"]).memory


def test_a_gpu_that_is_not_there(hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    content = profile("paper").model_dump()
    paper = Profile.model_validate({**content, "measure": {**content["measure"], "device": "cuda"}})
    found = estimate(paper, "paper", ["fused"])
    assert "of GPU memory for the weights" in found.memory  # 6 bytes a parameter for the baseline, 2 for fused
    assert "; this machine cannot run it, for measure.device is cuda, but" in found.memory


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "about 15 s of decoding, as the run in reports/x/ took on this kind of machine"),
        ({"cpu": "Another"}, "unknown on this machine; the run in reports/x/ took 15 s of decoding on Another"),
        ({"gpus": [{"name": "NVIDIA H100"}]},
         "unknown on this machine; the run in reports/x/ took 15 s of decoding on NVIDIA H100"),
    ],
)  # fmt: skip
def test_time_comes_from_a_run(changes: dict[str, Any], expected: str, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    runs = {"huggingface": {"load_s": 0.5, "warmup_s": 1.5, "decode_s": 8}, "fused": {"load_s": 1, "warmup_s": 1,
            "decode_s": 2}, "kernl": {"left_out": "no GPU"}}  # fmt: skip
    context = {"runs": runs, "rounds": {"seconds": 1.0}, "environment": {**fingerprint(), **changes}}
    Path("reports/x").mkdir(parents=True)
    Path("reports/x/context.json").write_text(json.dumps(context))
    assert module._time(Path("reports/x"), "x") == expected
    Path("reports/x/context.json").write_text("[]")
    assert module._time(Path("reports/x"), "x") == "unknown: reports/x/ holds no run of x"


def test_a_disk_that_is_too_small_is_refused(
    hub: TestHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("profiles", "params.yaml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, name)
    free(monkeypatch, 800_000)
    with pytest.raises(SystemExit) as stopped:
        main(["estimate", "--profile", "paper"])
    told = capfd.readouterr()
    assert stopped.value.code == 2
    assert told.out.startswith("paper needs, beyond what is here:\n")
    sentence = told.err.splitlines()[-1]
    assert sentence.startswith("error: paper needs about 1.")
    assert f"({LARGE_V2} 900." in sentence
    assert sentence.endswith(", and 800.0 kB are free: free some space, or put the caches elsewhere with HF_HOME.")
    free(monkeypatch, 8_000_000)
    main(["estimate", "--profile", "paper"])


def test_each_disk_counts_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of one disk are added up, those of another are not."""
    monkeypatch.chdir(tmp_path)
    found = Estimate("x", [module.Need("a", 600, Path("one/deep"), True), module.Need("b", 500, Path("two"), False),
                           module.Need("c", None, Path("two"), False)], "", "")  # fmt: skip
    free(monkeypatch, 1100)
    check_disk(found)
    free(monkeypatch, 1099)
    with pytest.raises(UserError, match=r"x needs about 1\.1 kB of disk at one/deep \(a 600 B, b 500 B\), and 1\.1 kB"):
        check_disk(found)
    places = {"one": SimpleNamespace(st_dev=1), "two": SimpleNamespace(st_dev=2)}
    monkeypatch.setattr(module, "_existing", lambda folder: SimpleNamespace(stat=lambda: places[folder.parts[0]]))
    check_disk(found)


@pytest.mark.parametrize("engine", [BASELINE, *engine_names(), "ladder.low"])
@pytest.mark.parametrize("on_gpu", [True, False])
def test_each_engine_s_weights_have_a_width(engine: str, on_gpu: bool) -> None:
    assert module._width(profile("bundled"), engine, on_gpu) in {1, 1.5, 2, 4, 6, 8}
