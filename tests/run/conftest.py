"""The data and model stages have run, on tones of several lengths and a broken file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.checkpoints.folders import write_folder
from whisper_speedup.audio import manifest
from whisper_speedup.checkpoints.prepare import prepare
from whisper_speedup.disk.files import write_json
from whisper_speedup.params.profile import Profile
from whisper_speedup.params.sources import Folder, Local
from whisper_speedup.run import crew

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "profiles" / "bundled.yaml"
TONES = 20


@pytest.fixture(autouse=True)
def any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one core alone nor a worker that is slow to start, on a busy machine, changes what is expected."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(crew, "PATIENCE_S", float("inf"))


def stages_before(folder: Path) -> Profile:
    """Write mine/, weights/, profiles/p.yaml and build/p/ into the working directory."""
    (folder / "mine").mkdir()
    for number in range(TONES):
        tone = 0.1 * np.sin(2 * np.pi * (300 + 50 * number) * np.arange(4000 + 400 * (number % 7)) / 16000)
        soundfile.write(folder / f"mine/{number:02d}.wav", tone, 16000)
    (folder / "mine/broken.wav").write_bytes(b"RIFF")
    write_folder(folder / "weights")
    manifest.prepare(Folder(source="folder", path=str(folder / "mine")), folder / "build/p/data")
    content = yaml.safe_load(BUNDLED.read_text())
    content["measure"] = {"device": "cpu", "threads": 1, "workers": 2}
    content["data"] = {"source": "folder", "path": "mine"}
    content["model"] = {"source": "local", "path": "weights"}
    (folder / "profiles").mkdir()
    (folder / "profiles/p.yaml").write_text(yaml.safe_dump(content))
    return Profile.model_validate(content)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.chdir(tmp_path)
    made = stages_before(tmp_path)
    write_json(Path("build/p/model.json"), prepare(Local(source="local", path="weights")).content())
    return made


def alone(profile: Profile) -> Profile:
    """The same in the stage's own process."""
    return profile.model_copy(update={"measure": profile.measure.model_copy(update={"workers": 1})})
